"""One answer: asked of a provider, written into the flight's events as it comes, and what it comes to."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from genqueue_worker.attempt import new_run
from genqueue_worker.errand import go_on
from genqueue_worker.fallback import gives_way, verdict
from genqueue_worker.outcome import Failed, Outcome, Succeeded
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.stalls import Heard
from genqueue_worker.transcript import Transcript

if TYPE_CHECKING:
    from genqueue_worker.attempt import Attempt, Clock
    from genqueue_worker.errand import Errand
    from genqueue_worker.runtime import Runtime
    from genqueue_worker.ways import Step

log = logging.getLogger("genqueue.attempt")


async def generate(runtime: Runtime, attempt: Attempt, clock: Clock, errand: Errand) -> Outcome:
    """Stream the answer of the first model of the chain that gives one into the flight's events.

    Raises:
        ProviderError: the provider's.
        Unreadable: what was shown of the answer cannot be read here.
    """
    if attempt.facts.resumed:
        await go_on(runtime, attempt, errand)
    head = errand.chain[0]
    started = {"type": "started", "route": head.way.route.name, "model": head.model, "run": new_run()}
    runtime.courier.write(attempt, [started])
    told: list[tuple[Step, ProviderError]] = []
    for step in errand.chain:
        if told and step.way.refusal is not None:
            continue
        if told:
            passed_on(runtime, attempt, told, step)
        try:
            return await answered(runtime, attempt, clock, errand, step)
        except ProviderError as error:
            if clock.ttft or not (told or gives_way(error)):
                raise
            if error.doubts_key:
                await step.way.access.doubt(error)
            told.append((step, error))
    raise verdict(told)


def passed_on(runtime: Runtime, attempt: Attempt, told: list[tuple[Step, ProviderError]], step: Step) -> None:
    """Note that a model is asked because one could not answer."""
    last, error = told[-1]
    log.info(
        "attempt.fallback flight=%s model=%s code=%s status=%s fallback=%s",
        attempt.flight,
        last.name,
        error.code,
        error.status,
        step.name,
    )
    runtime.telemetry.fallback(told[0][0].name, step.name)


async def answered(runtime: Runtime, attempt: Attempt, clock: Clock, errand: Errand, step: Step) -> Outcome:
    """Stream one model's answer into the flight's events; raises ProviderError."""
    codec, courier, route = runtime.codec, runtime.courier, step.way.route
    transcript = Transcript(step.model, errand.shown.text)
    provider = Heard(step.way.provider, runtime.stalls, attempt)
    request = errand.hand_over(step)
    answer = (
        runtime.cargo.stream(attempt, request, provider, route) if errand.laden else provider.stream(request, route)
    )
    async with aclosing(answer) as chunks:
        del request  # a large one would stay in memory until the answer's end
        async for chunk in chunks:
            entries = transcript.take(chunk)
            if entries:
                clock.first_entry()
                errand.request = None  # nobody else is asked any more
                courier.write(attempt, [codec.seal_entry(entry) for entry in entries] if codec.seals else entries)
    step.way.heard()
    if transcript.block_reason is not None:
        feedback = _json(transcript.prompt_feedback())
        reason = f"the provider refused the prompt: {transcript.block_reason}"
        return Failed("prompt_blocked", reason, detail={"prompt_feedback": feedback})
    head = errand.chain[0]
    return success(attempt, transcript, clock, errand.shown.continued, None if step is head else head.name)


def success(
    attempt: Attempt, transcript: Transcript, clock: Clock, continued: int = 0, fallback_from: str | None = None
) -> Succeeded:
    """Return the outcome of a whole answer.

    It is not to be given again when it was gone on from, or is another model's than the one asked for.

    Args:
        attempt: the attempt that got it.
        transcript: all that was said.
        clock: when.
        continued: how often the answer was gone on from.
        fallback_from: the model asked for, when another one answered.
    """
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
    if continued:
        result["continued"] = continued
        completed["continued"] = str(continued)
    if fallback_from is not None:
        result["fallback_from"] = completed["fallback_from"] = fallback_from
    replay = None if continued or fallback_from is not None else transcript.replay()
    return Succeeded(msgspec.json.encode(result), completed, replay)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
