"""Sends an answer at the pace asked for: chunks on an absolute timeline, each in Google's JSON."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from genqueue_lab.emulator.conveyor import Conveyor, Direct
from genqueue_lab.emulator.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue_lab.emulator.answers import Answer, Part, Piece
    from genqueue_lab.emulator.exchange import Exchange, Headers
    from genqueue_lab.emulator.options import Pace

_JSON = msgspec.json.Encoder()

#: Fields of a text that has nothing else.
_PLAIN = {"text", "thought"}


@dataclass(slots=True)
class Reply:
    """An answer on its way out, with the counts its chunks report."""

    answer: Answer
    model: str
    prompt_tokens: int
    tier: str
    response_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _written: int = 0
    _thought: int = 0

    def batches(self, size: int) -> Iterator[list[Piece]]:
        """Yield the pieces that go out together; at least one batch, even of nothing."""
        pieces = self.answer.pieces
        for start in range(0, len(pieces) or 1, size):
            yield pieces[start : start + size]

    def chunk(self, pieces: list[Piece], *, last: bool) -> dict[str, Any]:
        """Return the next chunk's JSON; its counts include all chunks before."""
        for piece in pieces:
            if piece.thought:
                self._thought += piece.tokens
            else:
                self._written += piece.tokens
        if self.answer.prompt_feedback is not None:
            said: dict[str, Any] = {"promptFeedback": self.answer.prompt_feedback}
        else:
            said = {"candidates": [self._candidate(pieces, last=last)]}
        return {
            **said,
            "usageMetadata": self._usage(),
            "modelVersion": self.model,
            "responseId": self.response_id,
        }

    def _candidate(self, pieces: list[Piece], *, last: bool) -> dict[str, Any]:
        content: dict[str, Any] = {"parts": _joined(pieces), "role": "model"} if pieces else {}
        candidate: dict[str, Any] = {"content": content}
        if last:
            candidate |= {"finishReason": self.answer.finish_reason, **self.answer.remarks}
        candidate["index"] = 0
        return candidate

    def _usage(self) -> dict[str, Any]:
        usage: dict[str, Any] = {"promptTokenCount": self.prompt_tokens}
        if self._written:  # the API leaves out a count of nothing
            usage["candidatesTokenCount"] = self._written
        usage["totalTokenCount"] = self.prompt_tokens + self._written + self._thought
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self.prompt_tokens}]
        if self._thought:
            usage["thoughtsTokenCount"] = self._thought
        usage["serviceTier"] = self.tier
        return usage


def _joined(pieces: list[Piece]) -> list[Part]:
    """Return the parts with neighbouring texts of one kind made one; a signed one stays as it is."""
    parts: list[Part] = []
    for piece in pieces:
        plain = piece.part.keys() <= _PLAIN and parts and parts[-1].keys() <= _PLAIN
        if plain and piece.thought == bool(parts[-1].get("thought")):
            parts[-1]["text"] += piece.part["text"]
        else:
            parts.append(dict(piece.part))
    return parts


async def stream(exchange: Exchange, reply: Reply, pace: Pace, headers: Headers) -> None:
    """Send the answer chunk by chunk: server-sent events with `alt=sse`, else one JSON array as it grows."""
    sse = exchange.request.query.get("alt") == "sse"
    opening, between, closing = (b"data: ", b"data: ", b"") if sse else (b"[", b",\r\n", b"]")
    ending = b"\r\n\r\n" if sse else b""
    kind = "text/event-stream" if sse else "application/json; charset=UTF-8"
    timeline = Timeline(exchange.request.received, pace)
    record = exchange.record
    chunks = _chunks(reply, pace.tokens_per_chunk)
    _, first = next(chunks)
    lag = await timeline.until(0)
    exchange.start(200, [("content-type", kind), *headers])
    record.status, record.first = 200, time.monotonic()
    await exchange.send(b"%s%s%s" % (opening, first, ending))
    record.sent(lag)
    await _send_rest(exchange, ((token, b"%s%s%s" % (between, chunk, ending)) for token, chunk in chunks), timeline)
    if closing:
        await exchange.send(closing)
    await exchange.end()
    record.answered = True


def _chunks(reply: Reply, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the chunks, each with the number of its first token."""
    count = max(1, -(-len(reply.answer.pieces) // size))
    for number, pieces in enumerate(reply.batches(size)):
        yield number * size, _JSON.encode(reply.chunk(pieces, last=number == count - 1))


async def _send_rest(exchange: Exchange, chunks: Iterator[tuple[int, bytes]], timeline: Timeline) -> None:
    conveyor = Conveyor(exchange, exchange.record, timeline) if isinstance(exchange, Direct) else None
    while (due := next(chunks, None) if conveyor is None else await conveyor.carry(chunks)) is not None:
        token, chunk = due
        lag = await timeline.until(token)
        await exchange.send(chunk)
        exchange.record.sent(lag)


async def whole(exchange: Exchange, reply: Reply, pace: Pace, headers: Headers) -> None:
    """Send the answer in one piece once its last token is due."""
    pieces = reply.answer.pieces
    timeline = Timeline(exchange.request.received, pace)
    lag = await timeline.until(max(0, len(pieces) - 1))
    exchange.record.lag = lag
    await send_json(exchange, 200, reply.chunk(pieces, last=True), headers)
    exchange.record.answered = True


async def send_json(exchange: Exchange, status: int, body: Any, headers: Headers) -> None:
    """Send a JSON document, indented as Google sends it."""
    data = msgspec.json.format(_JSON.encode(body), indent=2)
    await send_bytes(exchange, status, data, [("content-type", "application/json; charset=UTF-8"), *headers])


async def send_bytes(exchange: Exchange, status: int, data: bytes, headers: Headers) -> None:
    """Send a whole body with its length."""
    exchange.start(status, [*headers, ("content-length", str(len(data)))])
    exchange.record.status, exchange.record.first = status, time.monotonic()
    await exchange.send(data)
    await exchange.end()
