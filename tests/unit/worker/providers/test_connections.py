"""Which connection a request gets, on connections that never reach a network."""

import asyncio

import httpx
import pytest

from genqueue_worker.providers import connections
from genqueue_worker.providers.connections import ConnectionPool, PoolCounters, PoolOptions
from genqueue_worker.providers.streams import Unprocessed


def counts(counters):
    """Return what is open, live, sent and sent again."""
    return PoolCounters(counters.connections, counters.live_streams, counters.requests, counters.resent)


class Streams(httpx.AsyncByteStream):
    """A body that stays open until it is closed."""

    async def __aiter__(self):
        yield b""

    async def aclose(self):
        """Close; there is nothing to close."""


class Connection:
    """A connection that answers at once, or fails."""

    version, pings, goodbye, allows = "h2", True, False, 100

    def __init__(self, url, options, on_dialled, on_leaving):
        self.requests, self.closed, self.doubtful, self.max_streams = 0, False, False, self.allows
        self.gone, self.leave = False, lambda: on_leaving(self)
        self.line, self.dialled = None, lambda: on_dialled(self)
        self.arrived = asyncio.Event()
        self.opened.append(self)

    async def ready(self):
        """Be open at once."""
        if self.line is None:
            self.line = self
            self.dialled()
        return self

    async def send(self, request):
        """Answer after every other task had its turn, so that racing requests meet."""
        self.requests += 1
        await asyncio.sleep(0)
        if request.url.path == "/fail":
            raise httpx.ReadError("why")
        if request.url.path == "/refuse" or (request.url.path == "/refuse-first" and self is self.opened[0]):
            raise Unprocessed("refused")
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
    monkeypatch.setattr(connections, "Connection", Connection)
    monkeypatch.setattr(connections, "_PAUSES", (0.0, 0.0, 0.0))
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
    assert counts(own.counters()) == PoolCounters(connections=3, live_streams=7, requests=7)


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
    with pytest.raises(httpx.PoolTimeout, match=r"all 1 connections hold 3 streams, .*; raise max_connections"):
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
    assert counts(own.counters()) == PoolCounters(connections=1, live_streams=0, requests=3)


async def test_a_server_that_allows_fewer_streams_is_heeded(opened):
    """What does not fit any more goes to another connection."""
    own = pool()
    await own.handle_async_request(request())
    opened[0].max_streams = 1
    await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [1, 1]


async def test_a_connection_that_leaves_gets_no_more_requests(opened):
    """Its streams are still counted; it is no connection of the pool's any more, and closed with it."""
    own = pool()
    response = await own.handle_async_request(request())
    opened[0].leave()
    await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [1, 1]
    assert counts(own.counters()) == PoolCounters(connections=1, live_streams=2, requests=2)
    await response.aclose()
    await own.aclose()
    assert [connection.closed for connection in opened] == [True, True]


async def test_a_connection_kept_from_the_start_is_replaced_when_it_lasted(opened, monkeypatch):
    """One that ended after long is replaced at once; one that ended young, by the next request."""
    own = pool()
    await own.warm(request)
    opened[0].leave()
    assert len(opened) == 2
    monkeypatch.setattr(connections, "_LASTING", -1.0)
    opened[1].leave()
    assert (len(opened), own.counters().connections) == (3, 1)
    await own.aclose()
    opened[2].leave()
    assert len(opened) == 3


async def test_a_connection_in_doubt_is_the_last_choice(opened):
    """A request goes elsewhere as long as there is an elsewhere."""
    own = pool(max_connections=2)
    await own.handle_async_request(request())
    opened[0].doubtful = True
    await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [1, 1]
    opened[1].doubtful = True
    await own.handle_async_request(request())
    assert len(opened) == 2


async def test_what_the_server_did_nothing_about_is_sent_again_elsewhere(opened):
    """A refused stream is tried on another connection; it is one request of its caller's."""
    own = pool()
    assert (await own.handle_async_request(request("/refuse-first"))).status_code == 200
    assert counts(own.counters()) == PoolCounters(connections=2, live_streams=1, requests=2, resent=1)


async def test_a_server_that_refuses_everything_is_not_asked_for_ever(opened):
    """After four times the refusal is the caller's to see."""
    own = pool(max_connections=1)
    with pytest.raises(Unprocessed):
        await own.handle_async_request(request("/refuse"))
    assert counts(own.counters()) == PoolCounters(connections=1, live_streams=0, requests=4, resent=3)


async def test_each_server_has_connections_of_its_own(opened):
    """An address elsewhere, as an upload may have one, takes no place of the others."""
    own = pool(max_connections=1)
    for url in ("https://x/", "https://y/", "https://x:8443/", "https://x/"):
        await own.handle_async_request(httpx.Request("GET", url))
    assert [connection.requests for connection in opened] == [2, 1, 1]


async def test_a_closed_pool_opens_nothing(opened):
    """A request that comes too late is told so."""
    own = pool()
    await own.aclose()
    with pytest.raises(httpx.ConnectError, match="closed by us"):
        await own.handle_async_request(request())
    assert opened == []


async def test_another_connection_is_there_before_somebody_waits_for_it(opened):
    """It is opened while the first still has a fifth of its places, and takes requests once it is open."""
    own = pool(streams_per_connection=20, warm_connections=1)
    for _ in range(16):
        await own.handle_async_request(request())
    assert len(opened) == 1
    await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [17, 0]
    assert opened[1].line is None
    await opened[1].ready()
    await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [17, 1]
    assert own.counters().reused == 16


async def test_under_load_there_are_two(opened):
    """Ten streams on one connection open the second of those warmed at the start; one lost packet stalls half."""
    own = pool(streams_per_connection=90)
    await asyncio.gather(*(own.handle_async_request(request()) for _ in range(11)))
    await opened[1].ready()
    await asyncio.gather(*(own.handle_async_request(request()) for _ in range(13)))
    assert [connection.requests for connection in opened] == [12, 12]


async def test_connections_beyond_those_kept_close_when_they_were_idle(opened):
    """Two of three end by themselves, the one with a stream stays, and the pool says why they ended."""
    own = pool(max_connections=4, kept_connections=2, idle_expiry=0.05)
    responses = [await own.handle_async_request(request()) for _ in range(10)]
    assert len(opened) == 4
    for response in responses[:9]:
        await response.aclose()
    async with asyncio.timeout(5):
        while own.counters().connections > 2:  # noqa: ASYNC110 - a clock's reading; there is no event
            await asyncio.sleep(0.01)
    assert own.counters().ended == {"idle": 2}
    assert [connection.closed for connection in opened] == [True, True, False, False]
    await responses[9].aclose()
    await own.aclose()


async def test_http1_takes_a_connection_for_each_request(opened, monkeypatch):
    """More than the connections HTTP/2 may have, each used again once it is free, and none kept without a use."""
    monkeypatch.setattr(Connection, "version", "http/1.1")
    monkeypatch.setattr(Connection, "allows", 1)
    monkeypatch.setattr(Connection, "pings", False)
    monkeypatch.setattr(connections, "_HTTP1_EXPIRY", 0.05)
    own = pool(max_connections=2)
    responses = await asyncio.gather(*(own.handle_async_request(request()) for _ in range(5)))
    assert [connection.requests for connection in opened] == [1] * 5
    await responses[2].aclose()
    responses[2] = await own.handle_async_request(request())
    assert [connection.requests for connection in opened] == [1, 1, 2, 1, 1]
    for response in responses:
        await response.aclose()
    async with asyncio.timeout(5):
        while own.counters().connections:  # noqa: ASYNC110 - a clock's reading; there is no event
            await asyncio.sleep(0.01)
    assert own.counters().ended == {"idle": 5}


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
