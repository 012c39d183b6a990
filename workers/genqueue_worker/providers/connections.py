"""Several HTTP/2 connections to one endpoint as one httpx transport."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx

from genqueue_worker.providers.http2 import ConnectionOptions
from genqueue_worker.providers.streams import Unprocessed
from genqueue_worker.providers.transport import Connection

#: Seconds between two looks for a place while every connection is full; streams that were left free theirs.
_LOOK_AGAIN = 0.02

#: Seconds to wait before a request that the server refused on a sound connection is sent again, each time.
_PAUSES = (0.05, 0.2, 0.8)

#: Seconds a connection must have lasted to be replaced before anyone asks for it: a server that hangs up at once is
#: not dialled over and over.
_LASTING = 10.0

Origin = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Say how many connections there may be and how many streams each takes.

    `streams_per_connection` stays below the server's MAX_CONCURRENT_STREAMS (Google: 100), and a server that allows
    fewer is heeded. Some connections are kept from the start, so that one lost packet does not hold up every stream.
    A request waits `place_timeout` seconds for a place when all are taken.
    """

    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    streams_per_connection: int = 90
    warm_connections: int = 2
    max_connections: int = 8
    place_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """Count a pool's connections and live streams, and the requests since its start.

    `connections` are those that take requests; one that the server says goodbye on is none of them any more.
    `resent` are requests that were sent again because the server had done nothing about them.
    """

    connections: int
    live_streams: int
    requests: int
    resent: int = 0


class _Held:
    """A connection and what the pool knows of it."""

    def __init__(self, url: httpx.URL, options: ConnectionOptions, on_leaving: Callable[["_Held"], None]) -> None:
        self.origin = _origin(url)
        self.url = url
        self.live = 0
        self.since = asyncio.get_running_loop().time()
        self.connection = Connection(url, options, lambda _: on_leaving(self))

    def leave(self) -> None:
        """Count one stream less."""
        self.live -= 1


class ConnectionPool(httpx.AsyncBaseTransport):
    """Give each request to the least loaded connection, and open another one before a stream would wait.

    A connection that ends, or on which the server says goodbye, gets no more requests; one that is in doubt gets
    none as long as there is another. Requests that the server did nothing about are sent again. Streams are counted
    from the request to the close of its response, on the event loop alone: choosing a connection never awaits, so
    racing requests see each other. httpx's own timeouts are not read: `ConnectionOptions` has them.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._held: list[_Held] = []
        self._leaving: list[_Held] = []
        self._requests = 0
        self._resent = 0
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there.

        Raises:
            httpx.PoolTimeout: every connection allowed was full for `place_timeout` seconds.
        """
        await request.aread()
        refused_by = None
        for pause in _PAUSES:
            held = await self._place(request.url, refused_by)
            try:
                return await self._send(request, held)
            except Unprocessed:
                self._resent += 1
                if held in self._held:  # the server goes on with others: it has too many
                    refused_by = held
                    await asyncio.sleep(pause)
        return await self._send(request, await self._place(request.url, refused_by))

    async def warm(self, make_request: Callable[[], httpx.Request]) -> list[httpx.Response | httpx.TransportError]:
        """Open the connections kept from the start, each by a request of its own; return how each went."""
        url = make_request().url
        while len(self._to(url)) < min(self._options.warm_connections, self._options.max_connections):
            self._open(url)
        return await asyncio.gather(*(self._try(make_request(), held) for held in self._to(url)))

    def counters(self) -> PoolCounters:
        """Return what is open and live now."""
        live = sum(held.live for held in (*self._held, *self._leaving))
        return PoolCounters(len(self._held), live, self._requests, self._resent)

    async def aclose(self) -> None:
        """Close every connection; streams on them end with an error."""
        self._closed = True
        held = [*self._held, *self._leaving]
        await asyncio.gather(*(one.connection.aclose() for one in held))
        self._held, self._leaving = [], []

    async def _try(self, request: httpx.Request, held: _Held) -> httpx.Response | httpx.TransportError:
        try:
            response = await self._send(request, held)
            await response.aread()
        except httpx.TransportError as error:
            return error
        return response

    async def _send(self, request: httpx.Request, held: _Held) -> httpx.Response:
        self._requests += 1
        held.live += 1
        with contextlib.ExitStack() as failed:
            failed.callback(held.leave)
            response = await held.connection.send(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
            response.stream = _CountedStream(response.stream, failed.pop_all())
        return response

    async def _place(self, url: httpx.URL, refused_by: _Held | None) -> _Held:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._options.place_timeout
        while (held := self._choose(url, refused_by)) is None:
            if loop.time() >= give_up:
                raise httpx.PoolTimeout(
                    f"all {len(self._to(url))} connections hold {self._options.streams_per_connection} streams, or as "
                    "many as the server allows; raise max_connections or lower the worker's slots"
                )
            await asyncio.sleep(_LOOK_AGAIN)
        return held

    def _choose(self, url: httpx.URL, refused_by: _Held | None) -> _Held | None:
        there = self._to(url)
        limit = self._options.streams_per_connection
        free = [held for held in there if held.live < held.connection.capacity(limit)]
        sound = [held for held in free if held is not refused_by and not held.connection.doubtful]
        if not sound and len(there) < self._options.max_connections:
            return self._open(url)
        return min(sound or free, key=lambda held: held.live, default=None)

    def _to(self, url: httpx.URL) -> list[_Held]:
        origin = _origin(url)
        return [held for held in self._held if held.origin == origin]

    def _open(self, url: httpx.URL) -> _Held:
        if self._closed:
            raise httpx.ConnectError("the connections were closed by us")
        held = _Held(url, self._options.connection, self._left)
        self._held.append(held)
        return held

    def _left(self, held: _Held) -> None:
        """Give no more requests to a connection; open another when that leaves fewer than are kept."""
        if held not in self._held:  # the pool was closed
            return
        self._held.remove(held)
        self._leaving = [one for one in self._leaving if not one.connection.gone]
        self._leaving.append(held)
        lasted = asyncio.get_running_loop().time() - held.since
        few = len(self._to(held.url)) < min(self._options.warm_connections, self._options.max_connections)
        if few and lasted > _LASTING and not self._closed:
            self._open(held.url)


class _CountedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, at_close: contextlib.ExitStack) -> None:
        self._stream = stream
        self._at_close = at_close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        self._at_close.close()
        await self._stream.aclose()


def _origin(url: httpx.URL) -> Origin:
    return url.scheme, url.host, url.port
