"""How connections to the provider end, at a server that says and does whatever a test wants."""

import asyncio
import contextlib
import os
import signal

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from genqueue_worker.providers import pulse
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import PoolCounters, PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.seam import ProviderRequest, Route

from .http2_peer import LAST, WORD, listening

REQUEST = ProviderRequest("gemini-3-pro-preview", [{"role": "user", "parts": [{"text": "hi"}]}])


def counts(counters):
    """Return what is open, live, sent and sent again."""
    return PoolCounters(counters.connections, counters.live_streams, counters.requests, counters.resent)


@pytest.fixture
async def server():
    """Return a server."""
    async with listening() as made:
        made.route = Route("peer", f"http://127.0.0.1:{made.port}", "a-key")
        yield made


@pytest.fixture
async def provider():
    """Return a provider that is closed before its server is."""
    async with GeminiProvider() as opened:
        yield opened


class Caller:
    """Who asks for an answer."""

    def __init__(self, provider, route):
        self.began = asyncio.Event()
        self.task = asyncio.create_task(self._ask(provider, route))

    async def _ask(self, provider, route):
        said = ""
        async with contextlib.aclosing(provider.stream(REQUEST, route)) as stream:
            async for chunk in stream:
                said += "".join(piece.text for piece in chunk.entries)
                self.began.set()
        return said

    async def answer(self):
        """Return the answer."""
        return await asyncio.wait_for(self.task, 5)

    async def error(self):
        """Return the error the answer ended with, as code and whether to try again; and its message."""
        with pytest.raises(ProviderError) as raised:
            await asyncio.wait_for(self.task, 5)
        return (raised.value.code, raised.value.retryable), raised.value.message


async def test_a_server_that_says_goodbye_gets_no_more_requests(provider, server):
    """GOAWAY: what it goes on with is read to the end, new requests take a new connection, the old one closes."""
    first = Caller(provider, server.route)
    asked = await server.next()
    asked.say(WORD, first=True)
    await first.began.wait()
    first.began.clear()
    asked.peer.goaway(2**31 - 1)
    asked.say(WORD)
    await first.began.wait()
    second = Caller(provider, server.route)
    other = await server.next()
    assert other.peer is not asked.peer
    asked.peer.goaway(1)
    other.answer()
    assert await second.answer() == "."
    asked.say(LAST, last=True)
    assert await first.answer() == "wordword."
    await asyncio.wait_for(asked.peer.ended.wait(), 5)
    assert counts(provider.counters(server.route)) == PoolCounters(connections=1, live_streams=0, requests=2)


async def test_requests_above_the_last_stream_are_sent_again(provider, server):
    """What the server says it did nothing about is answered on another connection, and nobody notices."""
    callers = [Caller(provider, server.route) for _ in range(3)]
    first, *_ = await server.next(3)
    first.peer.goaway(first.id)
    again = await server.next(2)
    assert {asked.peer for asked in again} == {server.peers[1]}
    for asked in (first, *again):
        asked.answer()
    assert [await caller.answer() for caller in callers] == [".", ".", "."]
    assert provider.counters(server.route).resent == 2


async def test_a_goodbye_with_an_error_ends_what_was_under_way(provider, server):
    """Abrupt: the connection is gone, the error says what the server had said, and the job may be tried again."""
    caller = Caller(provider, server.route)
    asked = await server.next()
    asked.say(WORD, first=True)
    await caller.began.wait()
    asked.peer.goaway(1, ErrorCodes.INTERNAL_ERROR, b"on fire")
    asked.peer.transport.close()
    outcome, message = await caller.error()
    assert outcome == ("connection_lost", True)
    assert "INTERNAL_ERROR on fire" in message


async def test_a_server_that_wants_calm_is_not_sent_the_same_at_once(provider, server):
    """ENHANCE_YOUR_CALM is for the back-off between attempts to heed."""
    caller = Caller(provider, server.route)
    (await server.next()).peer.goaway(0, ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_requests")
    outcome, message = await caller.error()
    assert outcome == ("protocol_error", True)
    assert "ENHANCE_YOUR_CALM too_many_requests" in message
    assert provider.counters(server.route).resent == 0


async def test_a_connection_that_is_reset_ends_its_streams_alone(server):
    """A TCP reset is an error to try again for those on it; others and the next request are not touched."""
    async with GeminiProvider(GeminiOptions(pool=PoolOptions(streams_per_connection=1))) as provider:
        cut = Caller(provider, server.route)
        asked = await server.next()
        other = Caller(provider, server.route)
        others = await server.next()
        for one in (asked, others):
            one.say(WORD, first=True)
        await asyncio.gather(cut.began.wait(), other.began.wait())
        asked.peer.cut()
        assert (await cut.error())[0] == ("connection_lost", True)
        others.say(LAST, last=True)
        assert await other.answer() == "word."
        assert counts(provider.counters(server.route)) == PoolCounters(connections=1, live_streams=0, requests=2)


async def test_an_idle_connection_that_the_server_closes_is_opened_again(provider, server):
    """The next request finds a connection that works."""
    assert provider.counters(server.route).connections == 0
    for _ in range(2):
        caller = Caller(provider, server.route)
        asked = await server.next()
        asked.answer()
        assert await caller.answer() == "."
        asked.peer.goaway(1)
        asked.peer.transport.close()
        await asked.peer.ended.wait()
    assert len(server.peers) == 2


async def test_fewer_streams_are_heeded(provider, server):
    """MAX_CONCURRENT_STREAMS lowered: open streams go on, the next request goes to another connection."""
    first = Caller(provider, server.route)
    asked = await server.next()
    asked.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    asked.say(WORD, first=True)
    await first.began.wait()
    second = Caller(provider, server.route)
    other = await server.next()
    assert other.peer is not asked.peer
    other.answer()
    asked.say(LAST, last=True)
    assert [await first.answer(), await second.answer()] == ["word.", "."]


async def test_a_refused_stream_is_sent_again(provider, server):
    """REFUSED_STREAM: the server did nothing about it, whatever else it does."""
    caller = Caller(provider, server.route)
    (await server.next()).reset(ErrorCodes.REFUSED_STREAM)
    (await server.next()).answer()
    assert await caller.answer() == "."
    assert provider.counters(server.route).resent == 1


async def test_a_stream_the_server_gives_up_is_an_error_to_try_again(provider, server):
    """Any other reset may have cost something: it is the job's to repeat, not the connection's."""
    caller = Caller(provider, server.route)
    (await server.next()).reset(ErrorCodes.INTERNAL_ERROR)
    outcome, message = await caller.error()
    assert outcome == ("protocol_error", True)
    assert "INTERNAL_ERROR" in message
    assert counts(provider.counters(server.route)) == PoolCounters(connections=1, live_streams=0, requests=1)


async def test_a_server_that_fell_silent_is_found_out(server, monkeypatch):
    """Half open: its streams end by the ping's timeout, and requests go elsewhere before that."""
    monkeypatch.setattr(pulse, "_QUIET", 0.05)
    connection = ConnectionOptions(ping_interval=0.1, ping_timeout=0.6)
    async with GeminiProvider(GeminiOptions(pool=PoolOptions(connection))) as provider:
        caller = Caller(provider, server.route)
        asked = await server.next()
        asked.say(WORD, first=True)
        await caller.began.wait()
        server.deaf = True
        pool = provider._endpoints._endpoint(server.route).pool
        async with asyncio.timeout(5):
            while not pool._held[0].doubtful:  # noqa: ASYNC110 - a clock's reading; there is no event
                await asyncio.sleep(0.01)
        server.deaf = False
        asked.peer.data_received = lambda data: None
        second = Caller(provider, server.route)
        other = await server.next()
        assert other.peer is not asked.peer
        other.answer()
        assert await second.answer() == "."
        outcome, message = await caller.error()
    assert outcome == ("connection_lost", True)
    assert "no answer to a ping" in message


async def test_a_stopped_server_is_left_and_found_again(own_emulator):
    """SIGSTOP: the answer ends by the ping's timeout, not the read timeout; once it goes on, it is used again."""
    own_emulator.set(ttft=0, tpot=3600)
    route = Route("emulator", own_emulator.url, "a-key", str(own_emulator.ca_file))
    options = GeminiOptions(pool=PoolOptions(ConnectionOptions(ping_interval=0.2, ping_timeout=0.3)))
    async with GeminiProvider(options) as provider:
        caller = Caller(provider, route)
        await asyncio.wait_for(caller.began.wait(), 5)
        os.kill(own_emulator.pid, signal.SIGSTOP)
        try:
            assert (await caller.error())[0] == ("connection_lost", True)
        finally:
            os.kill(own_emulator.pid, signal.SIGCONT)
        again = Caller(provider, route)
        await asyncio.wait_for(again.began.wait(), 5)
        again.task.cancel()


async def test_another_source_address_is_kept(server):
    """The connection comes from the address that it was told to."""
    options = GeminiOptions(pool=PoolOptions(ConnectionOptions(local_address="127.0.0.2")))
    async with GeminiProvider(options) as provider:
        caller = Caller(provider, server.route)
        asked = await server.next()
        asked.answer()
        await caller.answer()
        assert asked.peer.transport.get_extra_info("peername")[0] == "127.0.0.2"
