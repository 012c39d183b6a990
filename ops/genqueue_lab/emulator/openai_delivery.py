"""Sends a chat completion at the pace asked for: chunks on the timeline of the Gemini side, in OpenAI's JSON."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from genqueue_lab.emulator.answers import JSON_TOKEN, compose
from genqueue_lab.emulator.delivery import send_json
from genqueue_lab.emulator.openai_models import hides_thoughts
from genqueue_lab.emulator.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue_lab.emulator.answers import Answer, Piece
    from genqueue_lab.emulator.exchange import Exchange, Headers
    from genqueue_lab.emulator.openai_requests import ChatRequest
    from genqueue_lab.emulator.options import Pace

_JSON = msgspec.json.Encoder()

_FINISHES = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}
_REFUSAL = "I'm sorry, but I can't help with that."

#: Length of a call's id behind its prefix, in bytes before they are text.
_ID_BYTES = 12

Delta = dict[str, Any]


@dataclass(slots=True)
class Token:
    """What one token adds to a choice; nothing, where the model thinks without showing it."""

    delta: Delta
    thought: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer, token by token."""

    tokens: list[Token]
    finish_reason: str

    @classmethod
    def of(cls, answer: Answer, *, hides: bool) -> Choice:
        """Return the choice for an answer of the emulated model's."""
        if answer.prompt_feedback is not None:
            words = _REFUSAL.split(" ")
            said = [words[0], *(f" {word}" for word in words[1:])]
            return cls([Token({"refusal": word}) for word in said], "stop")
        tokens = list(itertools.chain.from_iterable(_tokens(piece, hides=hides) for piece in answer.pieces))
        finish_reason = _FINISHES[answer.finish_reason]
        if finish_reason == "stop" and any("tool_calls" in token.delta for token in tokens):
            finish_reason = "tool_calls"
        return cls(tokens, finish_reason)

    def message(self) -> dict[str, Any]:
        """Return the whole answer."""
        said: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
        for token in self.tokens:
            for name, value in token.delta.items():
                if name == "tool_calls":
                    _add_call(said, value[0])
                else:
                    said[name] = (said.get(name) or "") + value
        return said


def choices_of(chat: ChatRequest, pace: Pace) -> list[Choice]:
    """Return the answers to a request; each further one is another."""
    choices = []
    for number in range(chat.choices):
        asked = chat.asked
        if number:
            asked = dataclasses.replace(asked, system_instruction={"parts": [{"text": f"Choice {number}"}]})
        choices.append(Choice.of(compose(asked, chat.model, pace), hides=hides_thoughts(chat.model)))
    return choices


def _tokens(piece: Piece, *, hides: bool) -> Iterator[Token]:
    if (call := piece.part.get("functionCall")) is not None:
        made = f"call_{secrets.token_urlsafe(_ID_BYTES)}"
        head = {"index": 0, "id": made, "type": "function", "function": {"name": call["name"], "arguments": ""}}
        yield Token({"tool_calls": [head]})
        text = _JSON.encode(call["args"]).decode()
        for start in range(0, len(text), JSON_TOKEN):
            yield Token({"tool_calls": [{"index": 0, "function": {"arguments": text[start : start + JSON_TOKEN]}}]})
    elif piece.thought:
        yield Token({} if hides else {"reasoning_content": piece.part["text"]}, thought=True)
    else:
        yield Token({"content": piece.part["text"]})


def _add_call(said: dict[str, Any], piece: dict[str, Any]) -> None:
    if "id" in piece:
        function = dict(piece["function"])
        said.setdefault("tool_calls", []).append({"id": piece["id"], "type": "function", "function": function})
    else:
        said["tool_calls"][-1]["function"]["arguments"] += piece["function"]["arguments"]


@dataclass(slots=True)
class Completion:
    """The answers on their way out."""

    chat: ChatRequest
    choices: list[Choice]
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_urlsafe(21)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def length(self) -> int:
        """Tokens of the longest answer, one at least."""
        return max(1, *(len(choice.tokens) for choice in self.choices))

    def usage(self) -> dict[str, Any]:
        """Return the tokens counted."""
        tokens = [token for choice in self.choices for token in choice.tokens]
        prompt, thoughts = self.chat.asked.prompt_tokens, sum(token.thought for token in tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": len(tokens),
            "total_tokens": prompt + len(tokens),
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": thoughts,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def events(self, first: int, size: int) -> bytes:
        """Return the events for so many tokens of every choice from the first one on; nothing for hidden thoughts."""
        bodies: list[dict[str, Any]] = []
        for index, choice in enumerate(self.choices):
            if first == 0:
                bodies.append(self._chunk(index, {"role": "assistant", "content": "", "refusal": None}))
            bodies += [self._chunk(index, delta) for delta in _joined(choice.tokens[first : first + size])]
        return b"".join(map(_event, bodies))

    def ending(self) -> bytes:
        """Return the last events: why each choice ended, the usage if asked for, and the end itself."""
        bodies = [self._chunk(index, {}, choice.finish_reason) for index, choice in enumerate(self.choices)]
        if self.chat.counts:
            bodies.append({**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()})
        return b"".join(map(_event, bodies)) + b"data: [DONE]\n\n"

    def whole(self) -> dict[str, Any]:
        """Return the answers in one piece."""
        choices = [
            {
                "index": index,
                "message": choice.message(),
                "logprobs": self._logprobs("".join(token.delta.get("content", "") for token in choice.tokens)),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(self.choices)
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage()}

    def _chunk(self, index: int, delta: Delta, finish_reason: str | None = None) -> dict[str, Any]:
        logprobs = self._logprobs(delta.get("content", ""))
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self.chat.counts else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}

    def _logprobs(self, text: str) -> dict[str, Any] | None:
        """Return as if each word were one token, and the only one there could have been."""
        if self.chat.logprobs is None or not text:
            return None
        told = {"token": text, "logprob": 0.0, "bytes": list(text.encode())}
        return {"content": [{**told, "top_logprobs": [told][: self.chat.logprobs]}], "refusal": None}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.chat.model.id,
            "service_tier": self.chat.asked.tier,
            "system_fingerprint": "fp_emulator",
        }


def _joined(tokens: list[Token]) -> Iterator[Delta]:
    """Yield the deltas of tokens that go out together, neighbouring texts of one kind made one."""
    held: Delta = {}
    for token in tokens:
        if "tool_calls" not in token.delta and token.delta.keys() == held.keys():
            held = {name: held[name] + value for name, value in token.delta.items()}
            continue
        if held:
            yield held
        held = token.delta
    if held:
        yield held


def _event(body: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % _JSON.encode(body)


async def stream(exchange: Exchange, completion: Completion, pace: Pace, headers: Headers) -> None:
    """Send the answers chunk by chunk."""
    timeline = Timeline(exchange.request.received, pace)
    record = exchange.record
    for first in range(0, completion.length, pace.tokens_per_chunk):
        lag = await timeline.until(first)
        if first == 0:
            exchange.start(200, [("content-type", "text/event-stream; charset=utf-8"), *headers])
            record.status, record.first = 200, time.monotonic()
        if events := completion.events(first, pace.tokens_per_chunk):
            await exchange.send(events)
            record.sent(lag)
    await exchange.send(completion.ending())
    await exchange.end()
    record.answered = True


async def whole(exchange: Exchange, completion: Completion, pace: Pace, headers: Headers) -> None:
    """Send the answers in one piece once the last token is due."""
    timeline = Timeline(exchange.request.received, pace)
    exchange.record.lag = await timeline.until(completion.length - 1)
    await send_json(exchange, 200, completion.whole(), headers)
    exchange.record.answered = True
