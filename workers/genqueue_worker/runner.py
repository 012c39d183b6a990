"""The run path of one message: claim, route, generate, settle, report."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from genqueue import ledger
from genqueue.ledger import Claim, Claimed, Publication, Refusal, Settled, Settlement
from genqueue_worker import cancellation, trace
from genqueue_worker.attempt import Attempt, Clock, new_token
from genqueue_worker.cancellation import CLEANUP_GRACE, through
from genqueue_worker.documents import Unreadable, read_request, sealed
from genqueue_worker.errand import Errand, routed
from genqueue_worker.generation import generate
from genqueue_worker.outage import is_passing
from genqueue_worker.outcome import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Refused,
    Retry,
    Unsent,
    back_off,
    settlement,
)
from genqueue_worker.providers.errors import ProviderError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    from genqueue.scripts import Call
    from genqueue_worker.runtime import Runtime
    from genqueue_worker.solo import Solo

    Work = Callable[[Runtime, Attempt, Clock], Coroutine[Any, Any, Outcome]]

log = logging.getLogger("genqueue.attempt")

#: Seconds between two tries of a claim or settlement while the server is away.
RETRY: Final = 0.2

#: Seconds a claim is tried; afterwards the message counts as lost, and the sweep publishes it again.
CLAIM_PATIENCE: Final = 30.0

#: Seconds a settlement is tried while the server is away, or while it refuses it; then the flight is left to its lease.
#: What was paid for counts for as long as nobody else took the flight, and after an outage every lease has a term more.
SETTLE_PATIENCE: Final = 3600.0
REFUSED_PATIENCE: Final = 60.0

#: What the ledger makes of a flight that is handed back.
HANDED_BACK: Final = "queued"

#: What it may make of one that is handed back by a worker which would be the first to take it again.
PUT_OFF: Final = frozenset({HANDED_BACK, "waiting"})

#: Code of a stored request that cannot be opened or decoded.
UNREADABLE: Final = "payload_unreadable"

#: Tries of a request that no key here opens: another worker may have it.
KEY_TRIES: Final = 3


async def run(runtime: Runtime, flight: str, stamp: int) -> str:
    """Run the flight a message names; returns its outcome in a word, for Celery and Flower."""
    claimed = await claim(runtime, flight, stamp, alone=False)
    if not isinstance(claimed, Refusal):
        return await carried(runtime, claimed)
    if claimed.reason == "suspect" and runtime.solo is not None:
        return await suspected(runtime, runtime.solo, flight, stamp)
    return claimed.reason


async def suspected(runtime: Runtime, solo: Solo, flight: str, stamp: int) -> str:
    """Run a flight in a process of its own; end it here, unasked, while its provider refuses this worker's key."""
    if await is_refused(runtime, flight):
        claimed = await claim(runtime, flight, stamp, alone=True)
        return claimed.reason if isinstance(claimed, Refusal) else await carried(runtime, claimed, unasked)

    async def settled() -> str | None:
        claimed = await claim(runtime, flight, stamp, alone=False)
        if isinstance(claimed, Refusal):
            return None if claimed.reason == "suspect" else claimed.reason
        return await carried(runtime, claimed)

    outcome = await solo.run(flight, stamp, settled)
    if outcome in PUT_OFF:
        for way in runtime.ways:  # nobody had told it to: a key may be refused, which is seen there alone
            await way.access.try_key()
    return outcome


async def is_refused(runtime: Runtime, flight: str) -> bool:
    """Return whether a flight's provider is known to refuse this worker's key."""
    if all(way.refusal is None for way in runtime.ways):
        return False
    try:
        request = await read_request(runtime.codec, await runtime.streams.request(flight))
        return runtime.ways.chain(request.model)[0].way.refusal is not None
    except (Unreadable, ProviderError, RedisError, OSError):
        return False  # its attempt says why


async def carried(runtime: Runtime, attempt: Attempt, work: Work | None = None) -> str:
    """Carry an attempt to its end, by default by asking the provider, and return what the ledger made of it."""
    clock = Clock(attempt)
    facts = attempt.facts
    with (
        trace.following(facts.traceparent, flight=attempt.flight, attempt=facts.attempt, lane=facts.lane),
        runtime.leases.hold(attempt),
    ):
        outcome, cut = await concluded(runtime, attempt, clock, work or attempted)
        trace.note(outcome=word(outcome))
        settled = await settle(runtime, attempt, outcome)
    await runtime.cargo.let_go(attempt)
    report(attempt, outcome, settled, clock)
    runtime.telemetry.times(attempt.lane, facts.attempt == 1, clock, settled)
    if cut is not None:
        raise cut
    return "refused" if settled is None else settled.status


async def claim(runtime: Runtime, flight: str, stamp: int, *, alone: bool) -> Attempt | Refusal:
    """Take the flight, alone in its process or beside others, or learn why not."""
    token = new_token()
    wish = Claim(flight, token, stamp, runtime.inbox, runtime.leases.lengths, alone=alone)
    try:
        reply = await _ask(runtime, ledger.claim(runtime.keys, wish), CLAIM_PATIENCE)
    except asyncio.CancelledError:
        # The claim is on its way, and may be granted to a token that nobody holds.
        with suppress(RedisError, OSError):
            await through(_tell(runtime, settlement(cut_off(), Unsent(flight, token, 1)), CLEANUP_GRACE))
        raise
    answer = ledger.parse_claim(reply)
    if isinstance(answer, Refusal):
        return answer
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    facts = replace(answer, request=b"")
    return Attempt(flight, token, facts, answer.lane, task, written=answer.written, stored=answer.request)


async def concluded(
    runtime: Runtime, attempt: Attempt, clock: Clock, work: Work
) -> tuple[Outcome, asyncio.CancelledError | None]:
    """Return how the attempt ended, and the cancellation to raise again once that is settled."""
    try:
        return await work(runtime, attempt, clock), None
    except asyncio.CancelledError as cut:
        if attempt.refused:
            attempt.task.uncancel()  # our own: the token is void
            return Refused(), None
        return cut_off(), cut
    except Exception:  # the attempt's boundary: a fault of ours must not take the flight with it
        log.exception("attempt.crashed flight=%s; it is tried again, report this", attempt.flight)
        delay = back_off(attempt.facts.tries, None, runtime.chance)
        return Retry("internal_error", "the worker failed; its log says how", delay), None


async def attempted(runtime: Runtime, attempt: Attempt, clock: Clock) -> Outcome:
    """Route and generate, unless the provider refuses this worker's key; return what the answer or its error is."""
    facts = attempt.facts
    try:
        errand = await routed(runtime, attempt)
        return await bar(attempt, errand) or await asked(runtime, attempt, clock, errand)
    except Unreadable as error:
        return unreadable(error, facts, runtime.chance)
    except ProviderError as error:
        return judge(error, facts, runtime.chance)


async def asked(runtime: Runtime, attempt: Attempt, clock: Clock, errand: Errand) -> Outcome:
    """Generate; what is refused may be the key, not the request."""
    try:
        return await generate(runtime, attempt, clock, errand)
    except ProviderError as error:
        if not error.doubts_key or clock.ttft:
            raise
        return await refused_key(attempt, errand, error, runtime.chance)


async def unasked(runtime: Runtime, attempt: Attempt, _: Clock) -> Outcome:
    """Return what an attempt ends with that the key does not allow, and that may not run in this process either."""
    try:
        return await bar(attempt, await routed(runtime, attempt)) or Interrupted()
    except (Unreadable, ProviderError):
        return Interrupted()


async def bar(attempt: Attempt, errand: Errand) -> Outcome | None:
    """Return what an attempt ends with while the provider refuses this worker's key; None while it does not."""
    access = errand.chain[0].way.access
    barred = await access.bar(attempt.lane)
    if barred is None:
        return None
    if barred.retryable:
        return Interrupted(access.pause(attempt.lane))
    return Failed(barred.code, barred.message, retryable=True)


async def refused_key(attempt: Attempt, errand: Errand, error: ProviderError, chance: random.Random) -> Outcome:
    """Return the outcome of a refusal that may be the key's: then the flight is for others, and it was no try."""
    access, facts = errand.chain[0].way.access, attempt.facts
    match await access.doubt(error):
        case "refused":
            return Interrupted(access.pause(attempt.lane))
        case "taken":
            return judge(error, facts, chance)
        case _:
            return Retry(error.code, error.message, back_off(facts.tries, error.retry_after, chance))


def judge(error: ProviderError, facts: Claimed, chance: random.Random) -> Outcome:
    """Return the outcome of a provider's error."""
    if error.retryable:
        return Retry(error.code, error.message, back_off(facts.tries, error.retry_after, chance))
    return Failed(error.code, error.message)


def unreadable(error: Unreadable, facts: Claimed, chance: random.Random) -> Outcome:
    """Return the outcome of a request nobody can send: a dead letter, after some tries if others may have its key."""
    if error.elsewhere and facts.tries < KEY_TRIES:
        return Retry(UNREADABLE, str(error), back_off(facts.tries, None, chance))
    return Failed(UNREADABLE, str(error), retryable=True)


def cut_off() -> Outcome:
    """Return the outcome of an attempt that Celery cancelled, by its reason."""
    match cancellation.reason():
        case cancellation.REVOKED:
            return Cancelled()
        case cancellation.SOFT_LIMIT | cancellation.HARD_LIMIT:
            return Failed("time_limit", "the task's time limit passed", retryable=True)
        case _:
            return Interrupted()


async def settle(runtime: Runtime, attempt: Attempt, outcome: Outcome) -> Settled | None:
    """Tell the ledger how the attempt ended, and publish what comes again; None when there was nothing to tell.

    Goes on through a cancellation: what was paid for is not thrown away by a shutdown.
    """
    if isinstance(outcome, Refused):
        runtime.telemetry.attempt(attempt.lane, outcome, None)
        return None
    attempt.settling = True
    return await through(_settle(runtime, attempt, outcome))


async def _settle(runtime: Runtime, attempt: Attempt, outcome: Outcome) -> Settled | None:
    while True:
        unsent = attempt.unsent()
        if await _appended(runtime, attempt, unsent):
            continue
        settled = await _tell(runtime, settlement(outcome, unsent), SETTLE_PATIENCE)
        if settled is None or settled.status != "gap":
            runtime.telemetry.attempt(attempt.lane, outcome, settled)
            return settled
        attempt.written = settled.written or 0


async def _appended(runtime: Runtime, attempt: Attempt, unsent: Unsent) -> bool:
    """Write a slice of the last entries where one call cannot carry all; return whether there is more to send."""
    part = ledger.first_slice(unsent.entries)
    if len(part) == len(unsent.entries):
        return False
    call = ledger.append(runtime.keys, unsent.flight, unsent.token, unsent.first, part)
    appended = ledger.parse_append(await _ask(runtime, call, SETTLE_PATIENCE))
    if appended.status in {"refused", "gone"}:
        attempt.drop()  # the settlement says what became of the flight
        return True
    attempt.written = appended.written
    return True


async def _tell(runtime: Runtime, told: Settlement | None, patience: float) -> Settled | None:
    """Settle, and publish what comes again; None when there is nothing to tell."""
    if told is None:
        return None
    told = await sealed(runtime.codec, told)
    settled = ledger.parse_settle(await _ask(runtime, ledger.settle(runtime.keys, told), patience))
    if settled.queue is not None and settled.stamp is not None:
        await runtime.sweeper.publish([Publication(told.flight, settled.queue, settled.stamp)])
    return settled


async def _ask(runtime: Runtime, call: Call, patience: float) -> Any:
    """Run a call, again and again while the server is away: every script may be repeated."""
    began = time.monotonic()
    while True:
        try:
            reply = await runtime.courier.ask(call)
        except (RedisError, OSError) as error:
            runtime.away.failed(error)
            if time.monotonic() - began >= (patience if is_passing(error) else min(patience, REFUSED_PATIENCE)):
                raise
        else:
            runtime.away.worked()
            return reply
        await asyncio.sleep(RETRY)


def report(attempt: Attempt, outcome: Outcome, settled: Settled | None, clock: Clock) -> None:
    """Log how the attempt ended."""
    code = getattr(outcome, "code", "")
    log.info(
        "attempt.settled flight=%s lane=%s attempt=%d outcome=%s state=%s code=%s ttft=%.3f total=%.3f trace=%s",
        attempt.flight,
        attempt.lane,
        attempt.facts.attempt,
        word(outcome),
        settled.status if settled else "refused",
        code,
        clock.ttft,
        clock.timings()["total"],
        trace.trace_id(attempt.facts.traceparent),
    )


def word(outcome: Outcome) -> str:
    """Return an outcome in a word, for logs and traces."""
    return type(outcome).__name__.lower()
