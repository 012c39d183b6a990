"""One answer: asked of the provider, written into the flight's events as it comes, and what it comes to."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from genqueue_worker.attempt import new_run
from genqueue_worker.documents import take_request
from genqueue_worker.outcome import Failed, Outcome, Succeeded
from genqueue_worker.shown import NOTHING, Shown, going_on
from genqueue_worker.stalls import Heard
from genqueue_worker.transcript import Transcript

if TYPE_CHECKING:
    from genqueue_worker.attempt import Attempt, Clock
    from genqueue_worker.runtime import Runtime


async def generate(runtime: Runtime, attempt: Attempt, clock: Clock) -> Outcome:
    """Stream the answer from the provider into the flight's events.

    Raises:
        ProviderError: the provider's.
        Unreadable: the stored request, or what was shown of the answer, cannot be read here.
    """
    codec, route, courier = runtime.codec, runtime.route, runtime.courier
    request, laden = await take_request(codec, attempt)
    route.admit(request)
    shown = await runtime.streams.shown(attempt.flight) if attempt.facts.resumed else NOTHING
    request = going_on(request, shown)
    courier.write(attempt, [{"type": "started", "route": route.name, "model": request.model, "run": new_run()}])
    transcript = Transcript(request.model, shown.text)
    provider = Heard(runtime.provider, runtime.stalls, attempt)
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
    return success(attempt, transcript, clock, shown)


def success(attempt: Attempt, transcript: Transcript, clock: Clock, shown: Shown) -> Succeeded:
    """Return the outcome of a whole answer; one that was gone on from is not to be given again."""
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
    if shown.continued:
        result["continued"] = shown.continued
        completed["continued"] = str(shown.continued)
    replay = None if shown.continued else transcript.replay()
    return Succeeded(msgspec.json.encode(result), completed, replay)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
