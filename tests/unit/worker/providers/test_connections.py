"""Which connection a request gets, on connections that never reach a network."""

import asyncio

import httpx
import pytest

from genqueue_worker.providers import connections
from genqueue_worker.providers.connections import ConnectionPool, PoolCounters, PoolOptions


class Streams(httpx.AsyncByteStream):
    """A body that stays open until it is closed."""

    async def __aiter__(self):
        yield b""

    async def aclose(self):
        """Close; there is nothing to close."""


class Connection:
    """A connection that answers at once, or fails."""

    def __init__(self, options):
        self.requests, self.closed, self.abandoned = 0, False, 0
        self.arrived = asyncio.Event()
        self.opened.append(self)

    async def handle_async_request(self, request):
        """Answer after every other task had its turn, so that racing requests meet."""
        self.requests += 1
        await asyncio.sleep(0)
        if request.url.path == "/fail":
            raise httpx.ReadError("why")
        if request.url.path == "/never":
            self.arrived.set()
            await asyncio.Event().wait()
        return httpx.Response(200, stream=Streams())

    async def aclose(self):
        """Note the close."""
        self.closed = True


@pytest.fixture
def opened(monkeypatch):
    """Replace the connections; return those opened."""
    Connection.opened = []
    monkeypatch.setattr(connections, "ConnectionTransport", Connection)
    return Connection.opened


def request(path="/"):
    """Return a request to anywhere."""
    return httpx.Request("GET", f"https://x{path}")


def pool(**options):
    """Return a pool of small connections."""
    return ConnectionPool(
        PoolOptions(**{"streams_per_connection": 3, "warm_connections": 2, "max_connections": 3, **options})
    )


async def test_requests_that_race_fill_connections_before_more_are_opened(opened):
    """Seven streams at once need three connections of three, and no more are opened."""
    own = pool()
    await asyncio.gather(*(own.handle_async_request(request()) for _ in range(7)))
    assert [connection.requests for connection in opened] == [3, 3, 1]
    assert own.counters() == PoolCounters(connections=3, live_streams=7, requests=7)


async def test_the_least_loaded_connection_comes_first(opened):
    """Connections kept from the start share the load, and one whose streams ended is taken again."""
    own = pool()
    await own.warm(request)
    responses = [await own.handle_async_request(request()) for _ in range(4)]
    assert [connection.requests for connection in opened] == [3, 3]
    await responses[1].aclose()
    await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [3, 4]


async def test_a_full_pool_refuses_in_time_and_says_so(opened):
    """A request beyond the last connection's room would wait in silence."""
    own = pool(max_connections=1, place_timeout=0.05)
    held = [await own.handle_async_request(request()) for _ in range(3)]
    with pytest.raises(httpx.PoolTimeout, match="all 1 connections hold 3 streams; raise max_connections"):
        await own.handle_async_request(request())
    await held[0].aclose()
    assert (await own.handle_async_request(request())).status_code == 200


async def test_a_request_takes_the_place_that_gets_free(opened):
    """A full pool is waited for: whoever comes first gets the next place."""
    own = pool(max_connections=1)
    held = [await own.handle_async_request(request()) for _ in range(3)]
    waiting = asyncio.create_task(own.handle_async_request(request()))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    await held[0].aclose()
    assert (await waiting).status_code == 200


async def test_a_stream_is_counted_until_it_is_closed_and_once(opened):
    """Closing twice, failing and being cancelled leave no count behind."""
    own = pool()
    response = await own.handle_async_request(request())
    await response.stream.aclose()
    await response.stream.aclose()
    with pytest.raises(httpx.ReadError):
        await own.handle_async_request(request("/fail"))
    waiting = asyncio.create_task(own.handle_async_request(request("/never")))
    await opened[0].arrived.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert own.counters() == PoolCounters(connections=1, live_streams=0, requests=3)


async def test_abandoned_streams_take_room(opened):
    """A stream nobody waits for is still one of the server's hundred."""
    own = pool(max_connections=1, place_timeout=0.05)
    await own.handle_async_request(request())
    opened[0].abandoned = 2
    assert own.counters() == PoolCounters(connections=1, live_streams=1, requests=1, abandoned_streams=2)
    with pytest.raises(httpx.PoolTimeout):
        await own.handle_async_request(request())


async def test_warm_ups_that_race_open_what_is_needed(opened):
    """Two warm-ups and a request together open the connections kept from the start, and no more."""
    own = pool()
    await asyncio.gather(own.warm(request), own.warm(request), own.handle_async_request(request()))
    assert len(opened) == 2


async def test_a_failed_warm_up_is_told_and_not_raised(opened):
    """Each connection says how its warm-up went."""
    answers = await pool().warm(lambda: request("/fail"))
    assert [type(answer) for answer in answers] == [httpx.ReadError, httpx.ReadError]


async def test_closing_closes_every_connection(opened):
    """No connection stays behind."""
    own = pool()
    await own.warm(request)
    await own.aclose()
    assert [connection.closed for connection in opened] == [True, True]
