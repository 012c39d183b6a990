"""Several connections to one endpoint as one httpx transport."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import httpx

from genqueue_worker.providers.bound import Bound, BoundStream
from genqueue_worker.providers.connection import Connection
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.streams import Unprocessed

logger = logging.getLogger(__name__)

#: Seconds between two looks for a place while every connection is full; streams that were left free theirs.
_LOOK_AGAIN = 0.02

#: Seconds to wait before a request that the server refused on a sound connection is sent again, each time.
_PAUSES = (0.05, 0.2, 0.8)

#: Seconds a connection must have lasted to be replaced before anyone asks for it: a server that hangs up at once is
#: not dialled over and over.
_LASTING = 10.0

#: Streams on the least loaded connection from which on there are as many connections as are warmed at the start.
_LOAD: Final = 10

#: Another connection is opened when fewer than one in so many of a connection's places are left on all together, so
#: that it is there before somebody waits for it.
_SPARE: Final = 5

#: Seconds an HTTP/1.1 connection is kept without a request, at most: uvicorn, under vLLM and others, hangs up after 5,
#: and a request that crosses with that is lost.
_HTTP1_EXPIRY: Final = 4.0

Origin = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Say how many connections there may be and how many streams each takes; times in seconds.

    `streams_per_connection` stays below the server's MAX_CONCURRENT_STREAMS (Google: 100), and a server that allows
    fewer is heeded. `warm_connections` are opened at the start, and there under load, so that one lost packet does not
    hold up every stream. Those that had no stream for `idle_expiry` close, down to `kept_connections` where pings keep
    these alive. A request waits `place_timeout` for a place when all are taken, and may take `total_timeout` in all, to
    its answer's end; None for as long as something comes. Over HTTP/1.1 a connection carries one request, so there may
    be as many as HTTP/2 would have streams.
    """

    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    streams_per_connection: int = 90
    warm_connections: int = 2
    max_connections: int = 10
    place_timeout: float = 60.0
    kept_connections: int = 5
    idle_expiry: float = 300.0
    total_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """Count a pool's connections and live streams, and what was since its start.

    Attributes:
        connections: those that take requests, or will; one that the server says goodbye on is none of them any more.
        requests: sent, those included that were sent again.
        resent: requests that were sent again because the server had done nothing about them.
        reused: requests on a connection that had carried one before.
        protocols: open connections by what was negotiated, "h2" or "http/1.1".
        handshakes: connections that were ever open, likewise; and as "failed" those that came to nothing.
        ended: connections by what ended them: the server's "goodbye", "lost", or "idle" and closed by us.
    """

    connections: int
    live_streams: int
    requests: int
    resent: int = 0
    reused: int = 0
    protocols: Mapping[str, int] = field(default_factory=dict)
    handshakes: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)


class _Held:
    """A connection and what the pool knows of it."""

    def __init__(self, pool: "ConnectionPool", url: httpx.URL, options: ConnectionOptions) -> None:
        self.origin = _origin(url)
        self.url = url
        self.live = 0
        self.carried = 0
        self.since = self.idle_since = asyncio.get_running_loop().time()
        self.connection = Connection(url, options, lambda _: pool._dialled(self), lambda _: pool._left(self))  # noqa: SLF001 - its own part

    @property
    def speaks_http1(self) -> bool:
        """Whether it carries one request at a time."""
        line = self.connection.line
        return line is not None and line.version == "http/1.1"

    @property
    def doubtful(self) -> bool:
        """Whether the server has kept a ping waiting."""
        line = self.connection.line
        return line is not None and line.doubtful

    def join(self) -> None:
        """Count one stream more."""
        self.live += 1

    def leave(self) -> None:
        """Count one stream less."""
        self.live -= 1
        self.idle_since = asyncio.get_running_loop().time()


class ConnectionPool(httpx.AsyncBaseTransport):
    """Give each request to the least loaded connection, and open another one before a stream would wait.

    A connection that ends, or on which the server says goodbye, gets no more requests; one that is in doubt gets
    none as long as there is another. Requests that the server did nothing about are sent again. Streams are counted
    from the choice of a connection to the close of the response, on the event loop alone: choosing never awaits, so
    racing requests see each other. httpx's own timeouts are not read: the options have them.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._held: list[_Held] = []
        self._leaving: list[_Held] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._allowed: dict[Origin, int] = {}
        self._reaper: asyncio.TimerHandle | None = None
        self._requests = self._resent = self._reused = 0
        self._handshakes: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there.

        Raises:
            httpx.PoolTimeout: every connection allowed was full for `place_timeout` seconds.
        """
        await request.aread()
        if self._options.total_timeout is None:
            return await self._answer(request)
        bound = Bound(self._options.total_timeout)
        async with bound.kept():
            response = await self._answer(request)
        response.stream = BoundStream(_stream_of(response), bound)
        return response

    async def warm(self, make_request: Callable[[], httpx.Request]) -> list[httpx.Response | httpx.TransportError]:
        """Open the connections kept from the start, each by a request of its own; return how each went."""
        url = make_request().url
        while len(self._to(url)) < self._warm_connections:
            self._open(url)
        return await asyncio.gather(*(self._try(make_request(), held) for held in self._to(url)))

    def counters(self) -> PoolCounters:
        """Return what is open and live now; may be called on any thread."""
        held = list(self._held)
        live = sum(one.live for one in (*held, *self._leaving))
        lines = [line for one in held if (line := one.connection.line) is not None]
        return PoolCounters(
            len(held),
            live,
            self._requests,
            self._resent,
            self._reused,
            dict(Counter(line.version for line in lines)),
            dict(self._handshakes),
            dict(self._ended),
        )

    async def aclose(self) -> None:
        """Close every connection; streams on them end with an error."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        held = [*self._held, *self._leaving]
        self._held, self._leaving = [], []
        await asyncio.gather(*(one.connection.aclose() for one in held), *self._closing)

    # -- one request

    async def _answer(self, request: httpx.Request) -> httpx.Response:
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

    async def _try(self, request: httpx.Request, held: _Held) -> httpx.Response | httpx.TransportError:
        held.join()
        try:
            response = await self._send(request, held)
            await response.aread()
        except httpx.TransportError as error:
            return error
        return response

    async def _send(self, request: httpx.Request, held: _Held) -> httpx.Response:
        """Send on a connection that has been joined, and leave it when the response is closed."""
        with contextlib.ExitStack() as failed:
            failed.callback(self._leave, held)
            line = await held.connection.ready()
            self._requests += 1
            self._reused += held.carried > 0
            held.carried += 1
            response = await line.send(request)
            response.stream = _CountedStream(_stream_of(response), failed.pop_all())
        return response

    def _leave(self, held: _Held) -> None:
        held.leave()
        if not held.live and self._reaper is None and not self._closed:
            self._reap()

    # -- which connection

    async def _place(self, url: httpx.URL, refused_by: _Held | None) -> _Held:
        """Wait for a place and return the connection, open and joined."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._options.place_timeout
        while True:
            if (held := self._choose(url, refused_by)) is not None:
                held.join()
                if await self._fits(held):
                    return held
            elif loop.time() >= give_up:
                raise httpx.PoolTimeout(
                    f"all {len(self._to(url))} connections hold {self._options.streams_per_connection} streams, or as "
                    "many as the server allows; raise max_connections or lower the worker's slots"
                )
            else:
                await asyncio.sleep(_LOOK_AGAIN)

    async def _fits(self, held: _Held) -> bool:
        """Wait until a joined connection is open; leave it again if more are waiting than it turns out to take."""
        with contextlib.ExitStack() as failed:
            failed.callback(self._leave, held)
            line = await held.connection.ready()
            if held.live > min(self._options.streams_per_connection, line.max_streams) and held in self._held:
                return False
            failed.pop_all()
        return True

    def _choose(self, url: httpx.URL, refused_by: _Held | None) -> _Held | None:
        there = self._to(url)
        free = [held for held in there if held.live < self._capacity(held)]
        sound = [held for held in free if held is not refused_by and not held.doubtful]
        best = min(sound, key=_preference, default=None)
        if len(there) < self._most(there) and self._wants_another(there, sound, best):
            opened = self._open(url)
            return best or opened
        return best or min(free, key=_preference, default=None)

    def _wants_another(self, there: list[_Held], sound: list[_Held], best: _Held | None) -> bool:
        if best is None:
            return True
        if len(there) < self._warm_connections and best.live >= _LOAD:
            return True
        capacity = self._capacity(best)
        left = sum(self._capacity(held) - held.live for held in sound) - 1
        return left < capacity // _SPARE

    def _capacity(self, held: _Held) -> int:
        """Return how many streams a connection takes at once; of one that is not open yet, as many as its like."""
        limit = self._options.streams_per_connection
        if (line := held.connection.line) is None:
            return min(limit, self._allowed.get(held.origin, limit))
        self._allowed[held.origin] = line.max_streams
        return min(limit, line.max_streams)

    def _most(self, there: list[_Held]) -> int:
        streams = self._options.streams_per_connection if any(held.speaks_http1 for held in there) else 1
        return self._options.max_connections * streams

    @property
    def _warm_connections(self) -> int:
        return min(self._options.warm_connections, self._options.max_connections)

    def _to(self, url: httpx.URL) -> list[_Held]:
        origin = _origin(url)
        return [held for held in self._held if held.origin == origin]

    # -- connections come and go

    def _open(self, url: httpx.URL) -> _Held:
        if self._closed:
            raise httpx.ConnectError("the connections were closed by us")
        options = self._options.connection
        if any(held.speaks_http1 for held in self._to(url)):
            options = replace(options, versions="http/1.1")  # as long as one is open, nobody is asked again
        held = _Held(self, url, options)
        self._held.append(held)
        return held

    def _dialled(self, held: _Held) -> None:
        line = held.connection.line
        self._handshakes[line.version if line is not None else "failed"] += 1
        if line is None:
            return
        if line.version != "h2" and sum(one.speaks_http1 for one in self._to(held.url)) == 1:
            logger.info("provider.http1 host=%s; it offers no HTTP/2: each request takes a connection", held.url.host)

    def _left(self, held: _Held) -> None:
        """Give no more requests to a connection; open another when that leaves fewer than are kept from the start."""
        if held not in self._held:  # the pool was closed, or it was idle
            return
        self._held.remove(held)
        self._leaving = [one for one in self._leaving if not one.connection.gone]
        self._leaving.append(held)
        line = held.connection.line
        if line is not None:
            self._ended["goodbye" if line.goodbye else "lost"] += 1
        lasted = asyncio.get_running_loop().time() - held.since
        few = len(self._to(held.url)) < self._warm_connections and not held.speaks_http1
        if few and lasted > _LASTING and not self._closed:
            self._open(held.url)

    def _reap(self) -> None:
        """Close connections that nobody needed for long, and look again as long as there are others."""
        self._reaper, now = None, asyncio.get_running_loop().time()
        due = []
        for held in self._idle():
            if (left := held.idle_since + self._expiry(held) - now) > 0:
                due.append(left)
            else:
                self._retire(held)
        if due:
            self._reaper = asyncio.get_running_loop().call_later(min(due), self._reap)

    def _idle(self) -> list[_Held]:
        """Return the connections without streams beyond those kept, the one idle longest first."""
        found = []
        for origin in {held.origin for held in self._held}:
            there = [held for held in self._held if held.origin == origin]
            lasting = all(line.pings for held in there if (line := held.connection.line) is not None)
            kept = self._options.kept_connections if lasting else 0
            idle = [held for held in there if not held.live and held.connection.line is not None]
            idle.sort(key=lambda held: held.idle_since)
            found += idle[: max(0, len(there) - kept)]
        return found

    def _expiry(self, held: _Held) -> float:
        return min(self._options.idle_expiry, _HTTP1_EXPIRY) if held.speaks_http1 else self._options.idle_expiry

    def _retire(self, held: _Held) -> None:
        self._held.remove(held)
        self._ended["idle"] += 1
        closing = asyncio.create_task(held.connection.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _CountedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, at_close: contextlib.ExitStack) -> None:
        self._stream = stream
        self._at_close = at_close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._at_close.close()  # only now: over HTTP/1.1 the next request would find it busy


def _stream_of(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
    return response.stream


def _preference(held: _Held) -> tuple[bool, int]:
    """Return what a request prefers least of: a connection that is not open yet, then a loaded one."""
    return held.connection.line is None, held.live


def _origin(url: httpx.URL) -> Origin:
    return url.scheme, url.host, url.port
