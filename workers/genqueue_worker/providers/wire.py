"""A connection's bytes, as httpcore reads and writes them."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httpcore

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes that wait to be read at which the socket is read no more.
_FULL: Final = 1024 * 1024

#: Seconds that a closing connection has for its farewell.
_FAREWELL: Final = 1.0


class Wire(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """An open connection's bytes, for one reader; what is written goes out in order, also when its writer leaves."""

    def __init__(self) -> None:
        self.on_end: Callable[[], None] = lambda: None
        self.ended = False
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._error: Exception | None = None
        self._came, self._lost = asyncio.Event(), asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- for httpcore

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - httpcore's
        """Wait for bytes and return them, none at the end."""
        while not self._chunks:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error)) from self._error
            if self.ended:
                return b""
            self._came.clear()
            await self._came.wait()
        data = self._chunks.popleft()
        if len(data) > max_bytes:
            self._chunks.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self._unread -= len(data)
        if self._unread + len(data) >= _FULL > self._unread and not self.ended:
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - httpcore's
        """Hand bytes over, then wait while the socket is full."""
        self.put(buffer)
        await self._writable.wait()

    async def aclose(self) -> None:
        """Close."""
        self.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore may want to know."""
        if info == "is_readable":
            return self.ended or bool(self._chunks)
        return self._transport.get_extra_info(info)

    # -- for the line

    def put(self, data: bytes) -> None:
        """Hand bytes over; they go out behind all before them."""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close; what was handed over still goes out."""
        self._transport.close()

    async def closed(self) -> None:
        """Wait for the end of a connection that is being closed; not for a server that takes no notice."""
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._lost.wait()
        except TimeoutError:
            self._transport.abort()
            await self._lost.wait()

    # -- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep bytes until they are read."""
        self._chunks.append(data)
        self._unread += len(data)
        if self._unread >= _FULL > self._unread - len(data):
            self._transport.pause_reading()
        self._came.set()

    def eof_received(self) -> None:
        """Note the end."""
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end, and why."""
        self._error = error
        self._lost.set()
        self._writable.set()
        self._end()

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    def _end(self) -> None:
        self._came.set()
        if not self.ended:
            self.ended = True
            self.on_end()
