"""One worker's try at a flight: claim, append, renew, settle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from genqueue import scripts
from genqueue.ledger.entries import Entry, Value, flat, flat_entries, text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue.ledger.submission import OnInterrupt

Outcome = Literal["succeeded", "failed", "cancelled", "retry", "interrupted"]


@dataclass(frozen=True, slots=True)
class Leases:
    """How long a token lives without renewal, by lane, in ms."""

    high: int
    normal: int
    low: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish to run a flight.

    Attributes:
        token: random text, made for this claim.
        stamp: the one in the message.
        inbox: channel on which the worker hears that the flight was taken from it.
        alone: whether the attempt has its process to itself, as that of a suspect must.
    """

    flight: str
    token: str
    stamp: int
    inbox: str
    leases: Leases
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was granted.

    Attributes:
        attempt: its number, for display.
        written: entries this attempt has written; more than 0 only when a claim is repeated.
        request: payload of the canonical JSON.
        created_ms, claimed_ms: when the flight was submitted and when this attempt began, by the server's clock.
        tries: attempts that failed before.
        traceparent: W3C trace context of the job that started the flight; "" without one.
        resumed: whether what earlier attempts have shown stays, and this one goes on from it.
    """

    attempt: int
    written: int
    lane: Lane
    deadline_ms: int
    tenant: str
    request: bytes
    created_ms: int
    claimed_ms: int
    tries: int
    traceparent: str = ""
    resumed: bool = False
    on_interrupt: OnInterrupt = "restart"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A claim that was not granted."""

    reason: Literal["gone", "done", "leased", "spent", "notyet", "late", "suspect"]


@dataclass(frozen=True, slots=True)
class Appended:
    """Whether entries were written, and how many entries of this attempt the stream has now."""

    status: Literal["ok", "gap", "refused", "gone"]
    written: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an attempt.

    Attributes:
        first: number of the first of `entries`, the attempt's last ones.
        delay_ms: how long a retry waits, or what is handed back.
        result: JSON of the folded answer.
        replay: entries from which the answer can be given again; None keeps it out of the cache.
        detail: fields of the terminal event.
    """

    flight: str
    token: str
    outcome: Outcome
    first: int = 1
    entries: Sequence[Entry] = ()
    delay_ms: int = 0
    result: str | bytes = ""
    replay: Sequence[Entry] | None = None
    detail: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did.

    Attributes:
        state: of the flight now, when the token was settled before (status "already").
        written: entries of this attempt in the stream, when some before `first` are missing (status "gap").
        queue, stamp: when something must be published.
        dead: whether that made a dead letter (status "failed").
    """

    status: Literal["succeeded", "failed", "cancelled", "waiting", "queued", "already", "refused", "gone", "gap"]
    state: str | None
    written: int | None
    queue: str | None
    stamp: int | None
    dead: bool = False


def claim(keys: Keys, wish: Claim, now_ms: int = 0) -> Call:
    """Return the call that takes a queued flight."""
    leases = (wish.leases.high, wish.leases.normal, wish.leases.low)
    args = (now_ms, wish.flight, wish.token, wish.stamp, wish.inbox, *leases, int(wish.alone))
    return Call(scripts.CLAIM, (keys.slot_of_id(wish.flight),), args)


def parse_claim(reply: Any) -> Claimed | Refusal:
    """Return the flight's facts, or why it was not granted."""
    status, *facts = reply
    if status != b"ok":
        return Refusal(cast("Any", text(status)))
    attempt, written, lane, deadline_ms, tenant, request, created_ms, claimed_ms, tries, traceparent, *rest = facts
    resumed, on_interrupt = rest
    return Claimed(
        attempt,
        written,
        cast("Lane", text(lane)),
        deadline_ms,
        text(tenant),
        request,
        created_ms,
        claimed_ms,
        tries,
        text(traceparent),
        resumed == 1,
        cast("OnInterrupt", text(on_interrupt)),
    )


def append(keys: Keys, flight: str, token: str, first: int, entries: Sequence[Entry]) -> Call:
    """Return the call that writes an attempt's entries, the first of which has the number `first` (from 1)."""
    return Call(scripts.APPEND, (keys.slot_of_id(flight),), (0, flight, token, first, *flat_entries(entries)))


def parse_append(reply: Any) -> Appended:
    """Return whether the entries were written."""
    return Appended(cast("Any", text(reply[0])), int(reply[1]))


def renew(keys: Keys, flight: str, token: str, lease_ms: int, now_ms: int = 0) -> Call:
    """Return the call that renews a lease."""
    return Call(scripts.RENEW, (keys.slot_of_id(flight),), (now_ms, flight, token, lease_ms))


def parse_renew(reply: Any) -> Lane | None:
    """Return the lane the flight has now (a join may have raised it), None when the token is void."""
    status, lane = map(text, reply)
    return cast("Lane", lane) if status == "ok" else None


def settle(keys: Keys, settlement: Settlement, now_ms: int = 0) -> Call:
    """Return the call that ends an attempt."""
    s = settlement
    replay = "" if s.replay is None else json.dumps([[text(value) for value in flat(entry)] for entry in s.replay])
    detail = [part for pair in s.detail.items() for part in pair]
    head = (now_ms, s.flight, s.token, s.outcome, s.delay_ms, s.result, replay, len(detail))
    return Call(scripts.SETTLE, (keys.slot_of_id(s.flight),), (*head, *detail, s.first, *flat_entries(s.entries)))


def parse_settle(reply: Any) -> Settled:
    """Return what a settlement did."""
    status, extra, queue, stamp = map(text, reply)
    return Settled(
        cast("Any", status),
        state=extra if status == "already" else None,
        written=int(extra) if status == "gap" else None,
        queue=queue or None,
        stamp=int(stamp) if queue else None,
        dead=extra == "dead",
    )
