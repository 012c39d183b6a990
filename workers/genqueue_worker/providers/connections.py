"""Several HTTP/2 connections to one endpoint as one httpx transport."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx

from genqueue_worker.providers.transport import ConnectionOptions, ConnectionTransport

#: Seconds between two looks for a place while every connection is full; streams that were left free theirs.
_LOOK_AGAIN = 0.02


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Say how many connections there may be and how many streams each takes.

    `streams_per_connection` stays below the server's MAX_CONCURRENT_STREAMS (Google: 100): past it a request
    waits in silence for another to end. Some connections are kept from the start, so that one lost packet
    does not hold up every stream. A request waits `place_timeout` seconds for a place when all are taken.
    """

    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    streams_per_connection: int = 90
    warm_connections: int = 2
    max_connections: int = 8
    place_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """Count a pool's open connections and live streams, and the requests since its start.

    `abandoned_streams` are those whose caller left before the answer's head came: see `ConnectionTransport`.
    """

    connections: int
    live_streams: int
    requests: int
    abandoned_streams: int = 0


class _Connection:
    def __init__(self, options: ConnectionOptions) -> None:
        self.transport = ConnectionTransport(options)
        self.live = 0

    @property
    def load(self) -> int:
        """Streams that take room at the server."""
        return self.live + self.transport.abandoned

    def leave(self) -> None:
        """Count one stream less."""
        self.live -= 1


class ConnectionPool(httpx.AsyncBaseTransport):
    """Give each request to the least loaded connection, and open another one before a stream would wait.

    A connection that broke is opened again by its next request. Streams are counted from the request to the
    close of its response, on the event loop alone: choosing a connection never awaits, so racing requests see
    each other.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._connections: list[_Connection] = []
        self._requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request.

        Raises:
            httpx.PoolTimeout: every connection allowed was full for `place_timeout` seconds.
        """
        return await self._send(request, await self._place())

    async def warm(self, make_request: Callable[[], httpx.Request]) -> list[httpx.Response | httpx.TransportError]:
        """Open the connections kept from the start, each by a request of its own; return how each went."""
        while len(self._connections) < min(self._options.warm_connections, self._options.max_connections):
            self._open()
        return await asyncio.gather(*(self._try(make_request(), connection) for connection in self._connections))

    def counters(self) -> PoolCounters:
        """Return what is open and live now."""
        live = sum(connection.live for connection in self._connections)
        abandoned = sum(connection.transport.abandoned for connection in self._connections)
        return PoolCounters(len(self._connections), live, self._requests, abandoned)

    async def aclose(self) -> None:
        """Close every connection; streams on them end with an error."""
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.transport.aclose()

    async def _try(self, request: httpx.Request, connection: _Connection) -> httpx.Response | httpx.TransportError:
        try:
            response = await self._send(request, connection)
            await response.aread()
        except httpx.TransportError as error:
            return error
        return response

    async def _send(self, request: httpx.Request, connection: _Connection) -> httpx.Response:
        self._requests += 1
        connection.live += 1
        with contextlib.ExitStack() as failed:
            failed.callback(connection.leave)
            response = await connection.transport.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
            response.stream = _CountedStream(response.stream, failed.pop_all())
        return response

    async def _place(self) -> _Connection:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._options.place_timeout
        while (connection := self._choose()) is None:
            if loop.time() >= give_up:
                raise httpx.PoolTimeout(
                    f"all {len(self._connections)} connections hold {self._options.streams_per_connection} streams; "
                    "raise max_connections or lower the worker's slots"
                )
            await asyncio.sleep(_LOOK_AGAIN)
        return connection

    def _choose(self) -> _Connection | None:
        best = min(self._connections, key=lambda connection: connection.load, default=None)
        if best is not None and best.load < self._options.streams_per_connection:
            return best
        if len(self._connections) < self._options.max_connections:
            return self._open()
        return None

    def _open(self) -> _Connection:
        connection = _Connection(self._options.connection)
        self._connections.append(connection)
        return connection


class _CountedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, at_close: contextlib.ExitStack) -> None:
        self._stream = stream
        self._at_close = at_close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        self._at_close.close()
        await self._stream.aclose()
