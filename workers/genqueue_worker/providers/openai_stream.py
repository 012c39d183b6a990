"""The body of a streamed chat completion, from bytes to chunks. Pure: no I/O.

What becomes of the first choice: content is a `delta`, reasoning a `thought`, a refusal a `delta` whose end is SAFETY,
and each call one `functionCall` part once the choice has ended. What a further choice says is a part about the
"candidate" with its `index`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_calls import Calls
from genqueue_worker.providers.openai_wire import (
    Choice,
    ContentPart,
    Delta,
    Message,
    decode_message,
    finish_of,
    logprobs_of,
    usage_of,
)
from genqueue_worker.providers.seam import Chunk, Piece
from genqueue_worker.providers.sse import EventTooLargeError, SseParser

#: The last event's data.
_DONE = b"[DONE]"

#: What llama.cpp writes where others write `data:`, in front of a bare error.
_BARE_ERROR = b"error:"

#: Longest piece of an answer that is no stream, for the message; in bytes.
_MAX_EXCERPT = 300

_REFUSED = "The model refused to answer"


@dataclass(slots=True)
class _State:
    """What a choice has said that counts at its end."""

    calls: Calls = field(default_factory=Calls)
    refused: bool = False
    ended: bool = False


class StreamReader:
    """Turn a body's bytes into chunks, and know whether the answer was ended or cut.

    Attributes:
        done: whether the last event has come.
    """

    def __init__(self) -> None:
        self.done = False
        self._parser = SseParser()
        self._states: dict[int, _State] = {}
        self._begun = self._finished = False

    @property
    def complete(self) -> bool:
        """Whether all that was begun has said why it ended: only counts can be missing."""
        return self.done or (self._finished and all(state.ended for state in self._states.values()))

    def feed(self, raw: bytes) -> Iterator[Chunk]:
        """Yield the chunks that `raw` completes; those before a broken message still come."""
        try:
            events = self._parser.feed(raw)
        except EventTooLargeError as error:
            raise ProviderError("event_too_large", str(error)) from error
        for event in events:
            yield from self._take(event)

    def close(self) -> Iterator[Chunk]:
        """Yield what the end of the body completes, then raise unless the answer was ended before."""
        for event in self._parser.close():
            try:
                yield from self._take(event.removeprefix(_BARE_ERROR))
            except ProviderError as error:
                if error.code != "malformed_chunk":
                    raise
                if not self._begun and event[:1] not in b"{[":
                    raise ProviderError("malformed_chunk", _no_stream(event), retryable=True) from None
                break  # the cut went through it
        yield from self._late_calls()
        if not self.done and not self._finished:
            message = "The stream ended without a finish reason"
            raise ProviderError("truncated_stream", message, retryable=True)

    def _take(self, event: bytes) -> Iterator[Chunk]:
        if self.done:
            return
        if event.startswith(_DONE):
            self.done = True
            if not self._finished:
                yield self._undeclared_end()
            yield from self._late_calls()
            return
        if event.strip():
            chunk = self._chunk(decode_message(event))
            self._begun = True
            self._finished = self._finished or chunk.finish_reason is not None
            yield chunk

    def _chunk(self, message: Message) -> Chunk:
        entries: list[Piece] = []
        finish_reason = None
        for choice in message.choices or ():
            if choice.index:
                entries += self._further(choice, choice.index)
                continue
            state = self._state(0)
            pieces = _pieces(choice.delta or choice.message, state)
            if choice.logprobs is not UNSET and (logprobs := logprobs_of(choice.logprobs)):
                pieces.append(_remark({"logprobsResult": logprobs}))
            if choice.finish_reason:
                finish_reason, last = _end(state, finish_of(choice.finish_reason))
                pieces += last
            entries += pieces
        usage = usage_of(message.usage) if message.usage else None
        return Chunk(tuple(entries), finish_reason, usage, message.model or None)

    def _further(self, choice: Choice, index: int) -> Iterator[Piece]:
        """Yield what a further choice says, as Gemini's candidate."""
        state = self._state(index)
        pieces = _pieces(choice.delta or choice.message, state)
        candidate: dict[str, Any] = {}
        if choice.finish_reason:
            candidate["finishReason"], last = _end(state, finish_of(choice.finish_reason))
            pieces += last
        parts = []
        for piece in pieces:
            if piece.about == "candidate":
                candidate |= msgspec.json.decode(piece.json)
            elif piece.kind == "part":
                parts.append(msgspec.json.decode(piece.json))
            else:
                parts.append({"text": piece.text, "thought": True} if piece.kind == "thought" else {"text": piece.text})
        if parts:
            candidate["content"] = {"role": "model", "parts": parts}
        if candidate:
            yield _remark({**candidate, "index": index})

    def _undeclared_end(self) -> Chunk:
        """Return what is left when the stream is done and no reason was given."""
        finish_reason, last = _end(self._state(0), "OTHER")
        return Chunk(tuple(last), finish_reason)

    def _late_calls(self) -> Iterator[Chunk]:
        """Yield the calls that came behind the reason of the end."""
        state = self._state(0)
        if state.ended and state.calls:
            finish_reason, last = _end(state, "STOP")
            yield Chunk(tuple(last), None if finish_reason == "STOP" else finish_reason)

    def _state(self, index: int) -> _State:
        state = self._states.get(index)
        if state is None:
            state = self._states[index] = _State()
        return state


def _pieces(delta: Delta | None, state: _State) -> list[Piece]:
    """Return what a delta says by itself; pieces of calls are kept in the state."""
    pieces: list[Piece] = []
    if delta is None:
        return pieces
    if thought := delta.reasoning_content or delta.reasoning:
        pieces.append(Piece("thought", thought))
    if isinstance(delta.content, str):
        if delta.content:
            pieces.append(Piece("delta", delta.content))
    elif delta.content is not None:
        pieces += _listed(delta.content)
    if delta.refusal:
        state.refused = True
        pieces.append(Piece("delta", delta.refusal))
    if delta.tool_calls:
        state.calls.take(delta.tool_calls)
    if delta.function_call is not None:
        state.calls.take_only(delta.function_call)
    return pieces


def _listed(content: list[ContentPart]) -> Iterator[Piece]:
    for part in content:
        if part.text:
            yield Piece("delta", part.text)
        for thought in part.thinking or ():
            if thought.text:
                yield Piece("thought", thought.text)


def _end(state: _State, finish_reason: str) -> tuple[str, list[Piece]]:
    """Return why a choice ended, and what is to be said only then: its calls, and remarks about the end."""
    state.ended = True
    pieces: list[Piece] = []
    for call in state.calls:
        part = call.part()
        if part is not None:
            pieces.append(Piece("part", json=msgspec.json.encode(part).decode()))
        elif finish_reason != "MAX_TOKENS":  # which cuts calls as it cuts texts
            finish_reason = "MALFORMED_FUNCTION_CALL"
            pieces.append(_remark({"finishMessage": f"Malformed function call: {call}"}))
    state.calls = Calls()
    if state.refused and finish_reason == "STOP":
        finish_reason = "SAFETY"
        pieces.append(_remark({"finishMessage": _REFUSED}))
    return finish_reason, pieces


def _no_stream(event: bytes) -> str:
    return f"The answer is no stream of messages, but: {event[:_MAX_EXCERPT].decode(errors='replace')}"


def _remark(said: dict[str, Any]) -> Piece:
    return Piece("part", json=msgspec.json.encode(said).decode(), about="candidate")
