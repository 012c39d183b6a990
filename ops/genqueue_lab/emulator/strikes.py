"""Carries out a fault: an exchange that does what its rule says to an answer on its way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from typing import TYPE_CHECKING

import msgspec

from genqueue_lab.emulator.errors import failure, region_forbidden
from genqueue_lab.emulator.faults import AFTER_HEAD, AT_ONCE

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Ending, Exchange, Headers, Request
    from genqueue_lab.emulator.faults import Rule, Standing
    from genqueue_lab.emulator.stats import RequestRecord

#: Seconds a slow start takes when the rule does not say.
SLOW_START = 5.0

#: Seconds for what was written to be read: a reset connection loses what its reader has not taken yet.
ARRIVAL = 0.01

#: Bytes of the pieces into which a chunk is split, in turn: odd, so that characters are cut as well.
PIECES = (1, 7, 3, 13, 5)

_BREAK = b"\r\n\r\n"


class Struck(Exception):
    """The answer ended here because of a fault."""


class StruckExchange:
    """An exchange of which a rule gets hold; the answer's code does not know."""

    def __init__(self, exchange: Exchange, standing: Standing) -> None:
        self.request: Request = exchange.request
        self.record: RequestRecord = exchange.record
        self._exchange = exchange
        self._standing = standing
        self._rule: Rule = standing.rule
        self._head: tuple[int, Headers] | None = None
        self._sent = 0
        self._splits = False

    @property
    def stream_id(self) -> int | None:
        """The number of the HTTP/2 stream."""
        return self._exchange.stream_id

    async def refusal(self) -> Exception | None:
        """Do what comes before any answer: wait, or return the error that is answered instead."""
        rule = self._rule
        match rule.kind:
            case "silence":
                self._note()
                await _wait(rule.seconds)
            case "slow_start":
                self._note()
                await self._hold(SLOW_START if rule.seconds is None else rule.seconds)
            case "status":
                self._note()
                return self._failure()
            case "region_forbidden":
                self._note()
                return self._forbidden()
            case _:
                pass
        return None

    def start(self, status: int, headers: Headers) -> None:
        """Hold the head back until the first chunk, for it may never come."""
        self._head = (status, headers)

    async def send(self, data: bytes) -> None:
        """Send a chunk, unless this is where the fault strikes."""
        if self._is_here():
            await self._strike(data)
        self._show_head()
        if self._splits:
            await self._send_split(data)
        else:
            await self._exchange.send(data)
        self._sent += 1

    async def end(self) -> None:
        """End the body, unless the fault strikes between its last chunk and its end."""
        if self._is_here():
            await self._strike(b"")
        self._show_head()
        await self._exchange.end()

    def reset(self, code: str) -> None:
        """Break off this answer."""
        self._exchange.reset(code)

    def disconnect(self, ending: Ending) -> None:
        """Drop the connection."""
        self._exchange.disconnect(ending)

    def go_away(self, code: str, last_stream: int | None) -> None:
        """Send GOAWAY."""
        self._exchange.go_away(code, last_stream)

    def hang_up(self) -> None:
        """Close the connection."""
        self._exchange.hang_up()

    def _show_head(self) -> None:
        if self._head is not None:
            self._exchange.start(*self._head)
            self._head = None

    def _is_here(self) -> bool:
        return self._sent == self._rule.after and self._rule.kind not in AT_ONCE

    def _note(self) -> None:
        self._standing.struck += 1
        self.record.fault = self._rule.kind

    async def _hold(self, seconds: float) -> None:
        """Begin late: from here on the answer keeps its pace."""
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._standing.lifted.wait()
        self.request.received += time.monotonic() - began

    async def _strike(self, data: bytes) -> None:
        """Let the fault happen to the next chunk; raises Struck when that is the answer's end."""
        rule = self._rule
        self._note()
        if rule.head or rule.kind in AFTER_HEAD:
            self._show_head()
        elif self._head is not None:
            self.record.status = self.record.first = None
        await asyncio.sleep(ARRIVAL)
        match rule.kind:
            case "reset":
                self._exchange.reset(rule.code or "INTERNAL_ERROR")
            case "disconnect":
                self._exchange.disconnect(rule.tcp)
            case "goaway":
                return await self._go_away()
            case "stall":
                return await _wait(rule.seconds)
            case "split_json":
                self._splits = True
                return None
            case "truncate":
                await self._truncate(data)
            case _:
                await self._send_error(first=self._sent == 0)
        raise Struck

    async def _go_away(self) -> None:
        rule = self._rule
        stream = self._exchange.stream_id or 0
        last = {"this": stream, "before": max(0, stream - 2), "all": None}[rule.last_stream]
        self._exchange.go_away(rule.code or "NO_ERROR", last)
        if rule.graceful and rule.last_stream != "before":
            return
        if not rule.graceful:
            self._exchange.hang_up()
        raise Struck

    async def _truncate(self, data: bytes) -> None:
        """End the body in good order, but early."""
        if not self._rule.whole:
            await self._exchange.send(data[: len(data) // 2])
        if not self._is_streamed():  # its length was announced
            self._exchange.disconnect("fin")
            raise Struck
        await self._exchange.end()

    async def _send_error(self, *, first: bool) -> None:
        """Send an error object as the last thing in the body."""
        await self._exchange.send(self._last_words(first=first))
        await self._exchange.end()

    def _failure(self) -> Exception:
        """Return the error that is answered instead."""
        rule = self._rule
        return failure(rule.status or 503, rule.retry_info, rule.retry_after)

    def _forbidden(self) -> Exception:
        """Return the error for a location that may not be used."""
        return region_forbidden()

    def _is_streamed(self) -> bool:
        """Whether the body comes in pieces."""
        return self.request.path.endswith(":streamGenerateContent")

    def _last_words(self, *, first: bool) -> bytes:
        """Return an error object as it stands in a body."""
        rule = self._rule
        body = failure(rule.status or 429, rule.retry_info, None).body()
        if self.request.query.get("alt") != "sse":
            return (b"[" if first else b",\r\n") + msgspec.json.encode(body) + b"]"
        if rule.data:
            return b"data: " + msgspec.json.encode(body) + _BREAK
        return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"

    async def _send_split(self, data: bytes) -> None:
        start = 0
        for size in itertools.cycle(PIECES):
            if start >= len(data):
                return
            await self._exchange.send(data[start : start + size])
            await asyncio.sleep(0)  # a frame, and a TLS record, of its own
            start += size


async def _wait(seconds: float | None) -> None:
    """Wait for so long, or for ever; the client's leaving cancels it."""
    if seconds is None:
        await asyncio.get_running_loop().create_future()
    else:
        await asyncio.sleep(math.ceil(seconds * 1000) / 1000)
