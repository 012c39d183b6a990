"""What can be done with jobs: submit, look up, wait for the result, ask for the status, cancel."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from genqueue import ledger
from genqueue.deployment import join
from genqueue.errors import InvalidRequest, JobNotFound, StreamGone
from genqueue.fingerprint import fingerprint
from genqueue.patience import BRIEF, Patience, persist
from genqueue.result import ENDED, Result, Status, ending_error, read_result
from genqueue.steps import Publish, Query, Run
from genqueue.tail import Reference, tail

if TYPE_CHECKING:
    from genqueue.deployment import Deployment
    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue.order import Order
    from genqueue.scripts import Call
    from genqueue.settings import Settings
    from genqueue.steps import Operation, Tailing


def reference_of(keys: Keys, job: str, flight: str, mark: str) -> Reference:
    """Return where a job's events are."""
    return Reference(job, flight, mark, keys.events(flight), keys.job(job), keys.flight(flight))


def prepare(order: Order, deployment: Deployment, settings: Settings) -> ledger.Submission:
    """Return the submission of an order: its ids are made here, so that it can be repeated without harm."""
    keys, options = deployment.keys, order.options
    document = order.document
    shared = ""
    if options.share != "none":
        scope = f"tenant:{options.tenant}" if options.share == "tenant" else "global"
        shared = fingerprint(document, scope=scope)
    partition = keys.partition_of_fingerprint(shared) if shared else None
    job = keys.new_id(partition)
    seconds = settings.deadline(options.lane) if options.deadline is None else options.deadline
    return ledger.Submission(
        job=job,
        flight=keys.new_id(keys.partition_of_id(job)),
        fingerprint=shared,
        lane=options.lane,
        deadline_ms=int((deployment.now() + seconds) * 1000),
        tenant=options.tenant,
        mark=secrets.token_hex(8),
        cache=options.cache,
        request=document,
        policy=ledger.Policy(
            max_tries=settings.max_tries,
            max_losses=settings.max_losses,
            stream_ttl_ms=int(settings.stream_ttl * 1000),
            keep_ms=int(settings.result_ttl * 1000),
            cache_ttl_ms=int(settings.cache_ttl * 1000),
        ),
    )


def submit(order: Order, deployment: Deployment, settings: Settings) -> Operation[Reference]:
    """Accept a job, then ring the broker; returns where its events are.

    Raises:
        InvalidRequest: the deadline passed before the server had the request; nothing was queued.
    """
    submission, accepted = yield from _offer(order, deployment, settings)
    if accepted.status == "late":
        # This machine's clock may have been set since the deployment was joined: read the server's once more.
        deployment = yield from persist(lambda: join(deployment.keys), BRIEF)
        submission, accepted = yield from _offer(order, deployment, settings)
    if accepted.status == "late":
        seconds = order.options.deadline or settings.deadline(order.options.lane)
        raise InvalidRequest("deadline", seconds, "more seconds: it passed before the request reached the server")
    if accepted.publication is not None:
        yield Publish(accepted.publication)
    return reference_of(deployment.keys, submission.job, accepted.flight, submission.mark)


def _offer(
    order: Order, deployment: Deployment, settings: Settings
) -> Operation[tuple[ledger.Submission, ledger.Submitted]]:
    submission = prepare(order, deployment, settings)
    # Idempotent by the job's id, so a lost reply may simply be asked for again.
    reply = yield from persist(lambda: _run(ledger.submit(deployment.keys, submission)), BRIEF)
    return submission, ledger.parse_submit(reply)


def _run(call: Call) -> Operation[Any]:
    return (yield Run(call))


def _query(query: Query) -> Operation[Any]:
    return (yield query)


def look_up(keys: Keys, job_id: str, patience: Patience = BRIEF) -> Operation[Reference]:
    """Return where a job's events are; raises JobNotFound when nobody knows it."""
    asked = Query((("HMGET", keys.job(job_id), "flight", "mark"),))
    ((flight, mark),) = yield from persist(lambda: _query(asked), patience)
    if flight is None:
        raise JobNotFound(job_id)
    return reference_of(keys, job_id, flight.decode(), (mark or b"").decode())


def status(reference: Reference) -> Operation[Status]:
    """Return where a job is; raises JobNotFound after its retention."""
    asked = Query(
        (
            ("HMGET", reference.job_key, "lane", "tenant", "deadline", "left"),
            ("HMGET", reference.flight_key, "state", "attempt", "tries", "losses"),
        )
    )
    job, flight = yield from persist(lambda: _query(asked), BRIEF)
    lane, tenant, deadline, left = (_text(value) for value in job)
    state, *counters = (_text(value) for value in flight)
    if not lane or not state:
        raise JobNotFound(reference.job_id)
    attempt, tries, losses = (int(value or 0) for value in counters)
    return Status(
        job_id=reference.job_id,
        state=left or state,
        lane=cast("Lane", lane),
        tenant=tenant,
        deadline=int(deadline or 0) / 1000,
        attempt=attempt,
        tries=tries,
        losses=losses,
    )


def result(reference: Reference, patience: Patience) -> Tailing[Result]:
    """Wait for a job's end and return its answer.

    Raises:
        JobError: the job ended without an answer: JobFailed, JobCancelled, JobExpired.
        JobNotFound: its retention is over.
    """
    found, newest = yield from persist(lambda: _ended(reference), patience)
    if found is None and newest is not None:
        with suppress(StreamGone):  # its end may be older than the stream's time to live when an outage is over
            yield from tail(reference, newest, patience)
        found, _ = yield from persist(lambda: _ended(reference), patience)
    if found is None:
        raise JobNotFound(reference.job_id)
    return found


def _ended(reference: Reference) -> Operation[tuple[Result | None, str | None]]:
    """Return the answer if there is one, and the id of the newest event; raises JobError for another end."""
    # The newest event is read first: what happens after it is seen by whoever reads on from there.
    newest, left, flight = yield Query(
        (
            ("XREVRANGE", reference.stream, "+", "-", "COUNT", 1),
            ("HGET", reference.job_key, "left"),
            ("HMGET", reference.flight_key, "state", "result", "ending"),
        )
    )
    state, document, ending = _text(flight[0]), flight[1], json.loads(flight[2] or b"{}")
    if left is not None:
        raise ending_error(reference.job_id, left.decode(), {})
    if document is not None:
        return read_result(reference.job_id, document, ending.get("source", "live")), None
    if state in ENDED:
        raise ending_error(reference.job_id, state, ending)
    return None, newest[0][0].decode() if newest else None


def cancel(reference: Reference, keys: Keys) -> Operation[bool]:
    """End a job; returns False when it had ended before."""
    reply = yield Run(ledger.leave(keys, reference.job_id, "cancelled"))
    departed = ledger.parse_leave(reply)
    if departed.status == "gone":
        raise JobNotFound(reference.job_id)
    return departed.status in {"ended", "left"}


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()
