"""Dead letters: flights that ended without an answer though the same request may have one later; read and dropped."""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from genqueue import ledger
from genqueue.errors import InvalidRequest, JobNotFound, PayloadUnreadable, ServerUnavailable
from genqueue.patience import BRIEF, ask, persist
from genqueue.steps import Run, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.intake import Intake
    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue.payload.codec import Codec
    from genqueue.steps import Operation

log = logging.getLogger("genqueue.dead")

#: Most letters that one list has.
MAX_LIMIT: Final = 10_000

#: Letters that one round trip asks about, over all partitions and of each.
PAGE: Final = 250

#: What a job is whose letter is there no more.
DROPPED: Final = "a dead letter no more: somebody dropped it"

#: What a letter is made of, besides the jobs aboard and the request.
_FIELDS: Final = ("lane", "tenant", "state", "ending", "ended", "attempt", "tries", "losses", "history")


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt of a dead letter, and how it ended.

    Attributes:
        attempt: its number.
        at: when it ended, in seconds since 1970.
        worker: who made it; "" when nobody noted it.
        outcome: "retry", "failed", "lost" (its worker) or "interrupted".
        code, message: why, in the provider's words or genqueue's; "" without any.
    """

    attempt: int
    at: float
    worker: str
    outcome: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A flight that failed and is kept, for a look at it and for another go.

    Attributes:
        job_id: the job asked for; in a list the first of `job_ids`.
        job_ids: every job aboard; each of them finds the letter.
        flight: the paid execution that failed.
        tenant: on whose behalf it was paid.
        code: the provider's status (e.g. "UNAVAILABLE") or genqueue's own (e.g. "worker_lost").
        message: why, in words; where no key here opens it, that.
        ended_at, kept_until: seconds since 1970.
        attempts: attempts begun.
        tries: failed provider calls.
        losses: lost workers.
        replayable: whether the request is kept.
        history: the newest attempts, at most 20, oldest first.
        request: the request, where it was asked for and is kept; inline data elsewhere is a reference.
    """

    job_id: str
    job_ids: tuple[str, ...]
    flight: str
    tenant: str
    lane: Lane
    code: str
    message: str
    ended_at: float
    kept_until: float
    attempts: int
    tries: int
    losses: int
    replayable: bool
    history: tuple[PastAttempt, ...] = ()
    request: dict[str, Any] | None = field(default=None, repr=False)


def letters(intake: Intake, limit: int, tenant: str | None) -> Operation[list[DeadLetter]]:
    """Return dead letters of all partitions, the newest first.

    Args:
        intake: of the deployment.
        limit: how many at most.
        tenant: only letters with a job of this tenant, and of the jobs aboard only its own; None is everybody's.

    Raises:
        InvalidRequest: the limit or the tenant is none.
        ServerUnavailable: the data server does not answer.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest("limit", limit, f"a whole number from 1 to {MAX_LIMIT}")
    if not isinstance(tenant, str | None):
        raise InvalidRequest("tenant", tenant, "a tenant's name, or None for everybody's")
    keys = intake.deployment.keys
    yield from persist(intake.deployment.enter, BRIEF)
    newest = _Newest(keys, int(intake.deployment.now() * 1000), min(limit, PAGE))
    found: list[DeadLetter] = []
    while len(found) < limit:
        page = yield from newest.take(PAGE if tenant is not None else min(PAGE, limit - len(found)))
        if not page:
            break
        found += yield from _read(keys, page, tenant, intake.codec)
    return sorted(found[:limit], key=lambda letter: letter.ended_at, reverse=True)


def letter(intake: Intake, job_id: str, *, with_request: bool) -> Operation[DeadLetter]:
    """Return the dead letter of a job, any of those aboard.

    Raises:
        InvalidRequest: the job is no dead letter.
        JobNotFound: nobody knows it (any more).
        PayloadUnreadable: the request is asked for, and no key here opens it.
    """
    keys, codec = intake.deployment.keys, intake.codec
    flight, left = yield from aboard(keys, job_id)
    asked = (*_questions(keys, flight), ("ZSCORE", keys.dead(keys.partition_of_id(flight)), flight))
    facts, members, has_request, kept_until = yield from ask(asked, BRIEF)
    check_dead(job_id, left, dict(zip(_FIELDS, facts, strict=True)), kept_until)
    document = (yield from _request(keys, flight, codec)) if with_request else None
    jobs = tuple(member.decode() for member in members)
    return _letter(_Found(flight, float(kept_until), facts, bool(has_request)), job_id, jobs, codec, document)


def drop(intake: Intake, job_id: str) -> Operation[bool]:
    """Drop the dead letter of a job, with its request and its history; returns False when it is none.

    Raises:
        JobNotFound: nobody knows the job (any more).
        ServerUnavailable: the data server does not answer.
    """
    keys, tries = intake.deployment.keys, 0
    flight, left = yield from aboard(keys, job_id)
    asked = (("HGET", keys.flight(flight), "tenant"), ("ZSCORE", keys.dead(keys.partition_of_id(flight)), flight))
    tenant, kept_until = yield from ask(asked, BRIEF)
    if tenant is None:
        raise JobNotFound(job_id)
    if left or kept_until is None:
        return False

    def run() -> Operation[Any]:
        nonlocal tries
        tries += 1
        return (yield Run(ledger.drop(keys, flight)))

    dropped = ledger.parse_drop((yield from persist(run, BRIEF)))
    if dropped == "gone":
        raise JobNotFound(job_id)
    # It was one a moment ago: behind a lost reply the first try is taken to have dropped it.
    if dropped != "dropped" and tries == 1:
        return False
    if intake.blobs is not None:
        try:
            yield Work(partial(intake.blobs.delete, tenant.decode(), flight))
        except ServerUnavailable as error:
            log.warning("dead.blobs_left flight=%s error=%s; genqueue blobs clean deletes them", flight, error)
    return True


def aboard(keys: Keys, job_id: str) -> Operation[tuple[str, str]]:
    """Return a job's flight, and how the job left that before its end: "" when it did not; raises JobNotFound."""
    ((flight, left),) = yield from ask((("HMGET", keys.job(job_id), "flight", "left"),), BRIEF)
    if flight is None:
        raise JobNotFound(job_id)
    return flight.decode(), (left or b"").decode()


def check_dead(job_id: str, left: str, facts: Mapping[str, bytes | None], kept_until: bytes | None) -> None:
    """Raise InvalidRequest for a job that is no dead letter, JobNotFound for one whose flight is gone.

    Args:
        job_id: the job.
        left: how it left its flight, see `aboard`.
        facts: `state` and `ending` of the flight.
        kept_until: its score among the dead letters.
    """
    state = facts["state"]
    if state is None:
        raise JobNotFound(job_id)
    if left:
        raise not_dead(job_id, left)
    if kept_until is not None:
        return
    if state != b"failed":
        raise not_dead(job_id, state.decode())
    ending = json.loads(facts["ending"] or b"{}")
    if ending.get("retryable") != "1":
        raise not_dead(job_id, f"refused for good ({ending.get('code', 'unknown')}): submit another request")
    raise not_dead(job_id, DROPPED)


def not_dead(job_id: str, reason: str) -> InvalidRequest:
    """Return the error for a job that is no dead letter."""
    return InvalidRequest("job_id", job_id, f"the job of a dead letter; this one is {reason}")


class _Newest:
    """The dead letters of all partitions by how long they are kept, which is about when they ended; newest first.

    Args:
        keys: the deployment's.
        now_ms: what is kept until before this moment is gone.
        page: letters of one partition read at once.
    """

    def __init__(self, keys: Keys, now_ms: int, page: int) -> None:
        self._keys = keys
        self._now_ms = now_ms
        self._page = page
        self._found: dict[int, deque[tuple[float, str]]] = {number: deque() for number in range(keys.partitions)}
        self._read = dict.fromkeys(self._found, 0)
        self._open = set(self._found)
        self._seen: set[str] = set()

    def take(self, count: int) -> Operation[list[tuple[float, str]]]:
        """Return the next letters, at most `count`: how long each is kept, in ms since 1970, and its flight."""
        taken: list[tuple[float, str]] = []
        while len(taken) < count:
            yield from self._fill()
            heads = [(found[0], number) for number, found in self._found.items() if found]
            if not heads:
                break
            taken.append(self._found[max(heads)[1]].popleft())
        return taken

    def _fill(self) -> Operation[None]:
        """Read on in every partition of which nothing is left."""
        while empty := [number for number in sorted(self._open) if not self._found[number]]:
            pages = yield from ask((self._range(number) for number in empty), BRIEF)
            for number, flat in zip(empty, pages, strict=True):
                pairs = zip(flat[1::2], flat[::2], strict=True)
                self._add(number, [(float(score), flight.decode()) for score, flight in pairs])

    def _add(self, partition: int, page: Sequence[tuple[float, str]]) -> None:
        """Take a page of a partition; it begins with letters of the one before when others came meanwhile."""
        fresh = [found for found in page if found[1] not in self._seen]
        self._seen.update(flight for _, flight in fresh)
        self._found[partition].extend(fresh)
        self._read[partition] += len(page)
        if len(page) < self._page:
            self._open.discard(partition)

    def _range(self, partition: int) -> tuple[str | int, ...]:
        look = ("LIMIT", self._read[partition], self._page)
        return ("ZREVRANGEBYSCORE", self._keys.dead(partition), "+inf", self._now_ms, "WITHSCORES", *look)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the server says of a dead flight."""

    flight: str
    kept_until_ms: float
    facts: Sequence[bytes | None]
    has_request: bool


def _questions(keys: Keys, flight: str) -> tuple[tuple[str | int, ...], ...]:
    """Return the commands for a flight's facts, the jobs aboard, and whether its request is kept."""
    key = keys.flight(flight)
    return (("HMGET", key, *_FIELDS), ("ZRANGE", keys.members(flight), 0, -1), ("HEXISTS", key, "request"))


def _read(
    keys: Keys, page: Sequence[tuple[float, str]], tenant: str | None, codec: Codec
) -> Operation[list[DeadLetter]]:
    """Return the letters of a page, without those whose flight has gone, or that have no job of the tenant."""
    replies = yield from ask([command for _, flight in page for command in _questions(keys, flight)], BRIEF)
    aboard = [tuple(member.decode() for member in members) for members in replies[1::3]]
    if tenant is not None:
        aboard = yield from _own(keys, aboard, tenant)
    return [
        _letter(_Found(flight, kept_until, facts, bool(has_request)), jobs[0], jobs, codec)
        for (kept_until, flight), facts, has_request, jobs in zip(
            page, replies[::3], replies[2::3], aboard, strict=True
        )
        if jobs and facts[0] is not None
    ]


def _own(keys: Keys, aboard: Sequence[tuple[str, ...]], tenant: str) -> Operation[list[tuple[str, ...]]]:
    """Return of each flight's jobs those of a tenant."""
    asked = [("HGET", keys.job(job), "tenant") for jobs in aboard for job in jobs]
    tenants = iter((yield from ask(asked, BRIEF)) if asked else ())
    return [tuple(job for job in jobs if next(tenants) == tenant.encode()) for jobs in aboard]


def _request(keys: Keys, flight: str, codec: Codec) -> Operation[dict[str, Any] | None]:
    (stored,) = yield from ask((("HGET", keys.flight(flight), "request"),), BRIEF)
    return None if stored is None else json.loads(codec.open("request", stored))


def _letter(
    found: _Found, job_id: str, jobs: tuple[str, ...], codec: Codec, request: dict[str, Any] | None = None
) -> DeadLetter:
    facts = {name: (value or b"").decode() for name, value in zip(_FIELDS, found.facts, strict=True)}
    ending = _opened(json.loads(facts["ending"] or "{}"), codec)
    return DeadLetter(
        job_id=job_id,
        job_ids=jobs,
        flight=found.flight,
        tenant=facts["tenant"],
        lane=cast("Lane", facts["lane"]),
        code=str(ending.get("code", "unknown")),
        message=str(ending.get("message", "")),
        ended_at=int(facts["ended"] or 0) / 1000,
        kept_until=found.kept_until_ms / 1000,
        attempts=int(facts["attempt"] or 0),
        tries=int(facts["tries"] or 0),
        losses=int(facts["losses"] or 0),
        replayable=found.has_request,
        history=tuple(_attempt(entry, codec) for entry in json.loads(facts["history"] or "[]")),
        request=request,
    )


def _attempt(entry: Mapping[str, Any], codec: Codec) -> PastAttempt:
    fields = _opened(entry, codec)
    return PastAttempt(
        attempt=int(fields.get("attempt") or 0),
        at=int(fields.get("at") or 0) / 1000,
        worker=str(fields.get("worker") or ""),
        outcome=str(fields.get("outcome") or ""),
        code=str(fields.get("code") or ""),
        message=str(fields.get("message") or ""),
    )


def _opened(fields: Mapping[str, Any], codec: Codec) -> Mapping[str, Any]:
    """Return fields with what was sealed; a letter that no key here opens is a letter all the same."""
    try:
        return codec.open_entry(fields)
    except PayloadUnreadable as error:
        return {**fields, "message": str(error)}
