"""The run path of one message: claim, generate, settle, report."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from redis.exceptions import RedisError

from genqueue import ledger
from genqueue.ledger import Claim, Claimed, Publication, Refusal, Settled, Settlement
from genqueue_worker import cancellation, trace
from genqueue_worker.attempt import Attempt, new_run, new_token
from genqueue_worker.cancellation import CLEANUP_GRACE
from genqueue_worker.documents import sealed, take_request
from genqueue_worker.outcome import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Refused,
    Retry,
    Succeeded,
    Unsent,
    back_off,
    settlement,
)
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.transcript import Transcript

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine

    from genqueue.scripts import Call
    from genqueue_worker.runtime import Runtime

T = TypeVar("T")

log = logging.getLogger("genqueue.attempt")

#: Seconds between two tries of a claim or settlement while the server is away.
RETRY: Final = 0.2

#: Seconds a claim is tried; afterwards the message counts as lost, and the sweep publishes it again.
CLAIM_PATIENCE: Final = 30.0

#: Seconds a settlement is tried; afterwards the flight is left to its lease.
SETTLE_PATIENCE: Final = 60.0


async def run(runtime: Runtime, flight: str, stamp: int) -> str:
    """Run the flight a message names; returns its outcome in a word, for Celery and Flower."""
    claimed = await claim(runtime, flight, stamp)
    if isinstance(claimed, Refusal):
        return claimed.reason
    attempt = claimed
    clock = Clock(attempt)
    facts = attempt.facts
    with (
        trace.following(facts.traceparent, flight=flight, attempt=facts.attempt, lane=facts.lane),
        runtime.leases.hold(attempt),
    ):
        outcome, cut = await concluded(runtime, attempt, clock)
        trace.note(outcome=word(outcome))
        settled = await settle(runtime, attempt, outcome)
    await runtime.cargo.let_go(attempt)
    report(attempt, outcome, settled, clock)
    if cut is not None:
        raise cut
    return "refused" if settled is None else settled.status


async def claim(runtime: Runtime, flight: str, stamp: int) -> Attempt | Refusal:
    """Take the flight, or learn why not."""
    token = new_token()
    wish = Claim(flight, token, stamp, runtime.inbox, runtime.leases.lengths)
    try:
        reply = await _ask(runtime, ledger.claim(runtime.keys, wish), CLAIM_PATIENCE)
    except asyncio.CancelledError:
        # The claim is on its way, and may be granted to a token that nobody holds.
        with suppress(RedisError, OSError):
            await _through(_tell(runtime, settlement(cut_off(), Unsent(flight, token, 1)), CLEANUP_GRACE))
        raise
    answer = ledger.parse_claim(reply)
    if isinstance(answer, Refusal):
        return answer
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    facts = replace(answer, request=b"")
    return Attempt(flight, token, facts, answer.lane, task, written=answer.written, stored=answer.request)


async def concluded(runtime: Runtime, attempt: Attempt, clock: Clock) -> tuple[Outcome, asyncio.CancelledError | None]:
    """Return how the attempt ended, and the cancellation to raise again once that is settled."""
    try:
        return await generate(runtime, attempt, clock), None
    except ProviderError as error:
        return judge(error, attempt.facts, runtime.chance), None
    except asyncio.CancelledError as cut:
        if attempt.refused:
            attempt.task.uncancel()  # our own: the token is void
            return Refused(), None
        return cut_off(), cut
    except Exception:  # the attempt's boundary: a fault of ours must not take the flight with it
        log.exception("attempt.crashed flight=%s; it is tried again, report this", attempt.flight)
        delay = back_off(attempt.facts.tries, None, runtime.chance)
        return Retry("internal_error", "the worker failed; its log says how", delay), None


async def generate(runtime: Runtime, attempt: Attempt, clock: Clock) -> Outcome:
    """Stream the answer from the provider into the flight's events; raises ProviderError."""
    codec, route, courier = runtime.codec, runtime.route, runtime.courier
    request, laden = await take_request(codec, attempt)
    route.admit(request)
    courier.write(attempt, [{"type": "started", "route": route.name, "model": request.model, "run": new_run()}])
    transcript = Transcript(request.model)
    provider = runtime.provider
    answer = runtime.cargo.stream(attempt, request, provider, route) if laden else provider.stream(request, route)
    async with aclosing(answer) as chunks:
        del request  # a large one would stay in memory until the answer's end
        async for chunk in chunks:
            entries = transcript.take(chunk)
            if entries:
                clock.first_entry()
                courier.write(attempt, [codec.seal_entry(entry) for entry in entries] if codec.seals else entries)
    if transcript.block_reason is not None:
        feedback = _json(transcript.prompt_feedback())
        reason = f"the provider refused the prompt: {transcript.block_reason}"
        return Failed("prompt_blocked", reason, detail={"prompt_feedback": feedback})
    return success(attempt, transcript, clock)


def success(attempt: Attempt, transcript: Transcript, clock: Clock) -> Succeeded:
    """Return the outcome of a whole answer."""
    usage, timings = transcript.usage(), clock.timings()
    finish_reason = transcript.finish_reason or ""
    result = {
        "v": 1,
        "text": transcript.text,
        "content": transcript.content(),
        "candidate": transcript.candidate(),
        "prompt_feedback": transcript.prompt_feedback(),
        "finish_reason": finish_reason,
        "usage": usage,
        "model": transcript.model,
        "attempts": attempt.facts.attempt,
        "timings": timings,
    }
    completed = {
        "finish_reason": finish_reason,
        "usage": _json(usage),
        "timings": _json(timings),
        "model": transcript.model,
        "source": "live",
    }
    return Succeeded(msgspec.json.encode(result), completed, transcript.replay())


def judge(error: ProviderError, facts: Claimed, chance: random.Random) -> Outcome:
    """Return the outcome of a provider's error."""
    if error.retryable:
        return Retry(error.code, error.message, back_off(facts.tries, error.retry_after, chance))
    return Failed(error.code, error.message)


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
        return None
    attempt.settling = True
    return await _through(_settle(runtime, attempt, outcome))


async def _through(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, and only then let a cancellation that came meanwhile take effect."""
    doing = asyncio.ensure_future(work)
    cut: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError as cancelled:
            cut = cancelled
    if cut is not None:
        doing.exception()  # taken note of: the cancellation is what counts
        raise cut
    return doing.result()


async def _settle(runtime: Runtime, attempt: Attempt, outcome: Outcome) -> Settled | None:
    while True:
        settled = await _tell(runtime, settlement(outcome, attempt.unsent()), SETTLE_PATIENCE)
        if settled is None or settled.status != "gap":
            return settled
        attempt.written = settled.written or 0


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
    give_up = time.monotonic() + patience
    while True:
        try:
            reply = await runtime.courier.ask(call)
        except (RedisError, OSError) as error:
            runtime.away.failed(error)
            if time.monotonic() >= give_up:
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


class Clock:
    """When things happened in one attempt, in seconds.

    Attributes:
        ttft: from the claim to the first entry with content; 0 before there is one.
    """

    def __init__(self, attempt: Attempt) -> None:
        facts = attempt.facts
        self.ttft = 0.0
        self._queued = max(0, facts.claimed_ms - facts.created_ms) / 1000
        self._started = time.monotonic()

    def first_entry(self) -> None:
        """Note that content came."""
        if not self.ttft:
            self.ttft = time.monotonic() - self._started

    def timings(self) -> dict[str, float]:
        """Return "queued" (submit to claim), "ttft" (claim to first token) and "total" (submit to now)."""
        total = self._queued + time.monotonic() - self._started
        return {"queued": round(self._queued, 4), "ttft": round(self.ttft, 4), "total": round(total, 4)}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
