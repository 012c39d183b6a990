"""What can be done with a job that was submitted: look up, wait for the result, ask for the status, cancel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from genqueue import ledger
from genqueue.errors import JobNotFound, ServerUnavailable
from genqueue.patience import BRIEF, Patience, ask, persist
from genqueue.payload.codec import PLAIN
from genqueue.reading import expiry
from genqueue.reading.completions import completions
from genqueue.reading.tail import Reference
from genqueue.result import ENDED, Result, Status, ending_error, read_result
from genqueue.steps import Query, Run

if TYPE_CHECKING:
    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue.payload.codec import Codec
    from genqueue.steps import Following, Operation


def reference_of(keys: Keys, job: str, flight: str, mark: str) -> Reference:
    """Return where a job's events are."""
    return Reference(job, flight, mark, keys)


def look_up(keys: Keys, job_id: str, patience: Patience = BRIEF) -> Operation[Reference]:
    """Return where a job's events are; raises JobNotFound when nobody knows it."""
    ((flight, mark),) = yield from ask((("HMGET", keys.job(job_id), "flight", "mark"),), patience)
    if flight is None:
        raise JobNotFound(job_id)
    return reference_of(keys, job_id, flight.decode(), (mark or b"").decode())


def status(reference: Reference, patience: Patience = BRIEF) -> Operation[Status]:
    """Return where a job is; raises JobNotFound after its retention.

    One whose deadline has passed, and that nobody has ended, is ended here: there may be no worker.
    """
    found, seconds_left = yield from _look(reference, patience)
    if found.ended or seconds_left > 0:
        return found
    try:
        yield Run(ledger.leave(reference.keys, reference.job_id, "expired"))
    except ServerUnavailable:
        return found  # as it was when the server was asked
    found, _ = yield from _look(reference, patience)
    return found


def _look(reference: Reference, patience: Patience) -> Operation[tuple[Status, float]]:
    """Return where a job is, and the seconds until its deadline."""
    asked = (
        expiry.CLOCK,
        ("HMGET", reference.job_key, "lane", "tenant", "deadline", "left", "traceparent", "replayed_from"),
        ("HMGET", reference.flight_key, "state", "attempt", "tries", "losses", "stamp"),
    )
    clock, job, flight = yield from ask(asked, patience)
    lane, tenant, deadline, left, traceparent, replayed_from = (_text(value) for value in job)
    state, *counters, stamp = (_text(value) for value in flight)
    if not lane or not state:
        raise JobNotFound(reference.job_id)
    attempt, tries, losses = (int(value or 0) for value in counters)
    found = Status(
        job_id=reference.job_id,
        state=left or state,
        lane=cast("Lane", lane),
        tenant=tenant,
        deadline=int(deadline or 0) / 1000,
        attempt=attempt,
        tries=tries,
        losses=losses,
        flight=reference.flight,
        task_id=f"{reference.flight}.{stamp}" if stamp else "",
        traceparent=traceparent,
        replayed_from=replayed_from,
    )
    return found, expiry.left(deadline, clock)


def result(reference: Reference, patience: Patience, codec: Codec = PLAIN) -> Following[str, Result]:
    """Wait for a job's end and return its answer.

    Raises:
        JobError: the job ended without an answer: JobFailed, JobCancelled, JobExpired.
        JobNotFound: its retention is over.
        PayloadUnreadable: no key of this process opens the answer.
    """
    found = yield from persist(lambda: _ended(reference, codec), patience)
    if found is None:
        yield from completions((reference,), patience)
        found = yield from persist(lambda: _ended(reference, codec), patience)
    if found is None:
        raise JobNotFound(reference.job_id)
    return found


def _ended(reference: Reference, codec: Codec) -> Operation[Result | None]:
    """Return the answer if there is one; raises JobError for another end, JobNotFound for a job that was purged."""
    (known, left), flight = yield Query(
        (
            ("HMGET", reference.job_key, "flight", "left"),
            ("HMGET", reference.flight_key, "state", "result", "ending"),
        )
    )
    state, document, ending = _text(flight[0]), flight[1], json.loads(flight[2] or b"{}")
    if known is None:
        raise JobNotFound(reference.job_id)
    if left is not None:
        raise ending_error(reference.job_id, left.decode(), {})
    if document is not None:
        return read_result(reference.job_id, codec.open("result", document), ending.get("source", "live"))
    if state in ENDED:
        raise ending_error(reference.job_id, state, codec.open_entry(ending))
    return None


def cancel(reference: Reference, keys: Keys, patience: Patience = BRIEF) -> Operation[bool]:
    """End a job; returns False when it had ended before."""
    tries = 0

    def leave() -> Operation[Any]:
        nonlocal tries
        tries += 1
        return (yield Run(ledger.leave(keys, reference.job_id, "cancelled")))

    departed = ledger.parse_leave((yield from persist(leave, patience)))
    if departed.status == "gone":
        raise JobNotFound(reference.job_id)
    # Behind a lost reply the job's cancellation is taken for the one that was asked for.
    cancelled = "cancelled" in {departed.reason, departed.state}
    return departed.status in {"ended", "left"} or (tries > 1 and cancelled)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()
