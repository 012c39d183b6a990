"""Completions that wait to be told: looked for, taken for a while, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.keys import Keys

#: What a delivery came to: told, given up, to be tried again, or to wait without counting as a try.
Delivery = Literal["delivered", "dropped", "failed", "waits"]


@dataclass(frozen=True, slots=True)
class Taking:
    """A worker's wish to deliver completions.

    Attributes:
        token: random text, made for this wish.
        lease_ms: how long nobody else delivers what is taken.
        longest: bytes of the longest result wanted.
    """

    token: str
    lease_ms: int
    longest: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a job that somebody is to be told of.

    Attributes:
        token: with which it was taken.
        on_done: JSON of whom to tell.
        state: "completed", "failed", "cancelled" or "expired".
        tries: how often it was tried before.
        ending: JSON object with the fields of the terminal event.
        result: payload of the folded answer; b"" without one, or when it is longer than was wanted.
    """

    job: str
    token: str
    flight: str
    tenant: str
    lane: str
    deadline_ms: int
    on_done: str
    traceparent: str
    state: str
    done_at_ms: int
    tries: int
    ending: bytes
    result: bytes


def due(keys: Keys, partition: int, now_ms: int, limit: int) -> tuple[str | int, ...]:
    """Return the command that lists jobs whose completion is due: a look without obligation."""
    return ("ZRANGEBYSCORE", keys.outbox(partition), "-inf", now_ms, "LIMIT", 0, limit)


def collect(keys: Keys, partition: int, jobs: Sequence[str], taking: Taking, now_ms: int = 0) -> Call:
    """Return the call that takes completions of a partition."""
    head = (now_ms, taking.token, taking.lease_ms, taking.longest)
    return Call(scripts.COLLECT, (keys.slot(partition),), (*head, *jobs))


def parse_collect(taking: Taking, reply: Any) -> list[Completion]:
    """Return the completions that were taken."""
    return [_completion(taking.token, fields) for fields in reply]


def _completion(token: str, fields: Sequence[bytes]) -> Completion:
    *texts, ending, result = fields
    job, flight, tenant, lane, deadline_ms, on_done, traceparent, state, done_at_ms, tries = map(text, texts)
    return Completion(
        job=job,
        token=token,
        flight=flight,
        tenant=tenant,
        lane=lane,
        deadline_ms=int(deadline_ms),
        on_done=on_done,
        traceparent=traceparent,
        state=state,
        done_at_ms=int(done_at_ms),
        tries=int(tries or 0),
        ending=ending or b"{}",
        result=result,
    )


def delivered(keys: Keys, taken: Completion, delivery: Delivery, delay_ms: int = 0, now_ms: int = 0) -> Call:
    """Return the call that says what became of a completion; `delay_ms` until the next try."""
    return Call(scripts.DELIVERED, (keys.slot_of_id(taken.job),), (now_ms, taken.job, taken.token, delivery, delay_ms))


def parse_delivered(reply: Any) -> bool:
    """Return whether it was noted; not when it was delivered before, or taken by somebody else since."""
    return text(reply) == "ok"
