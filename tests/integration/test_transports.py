"""What a transport does for a worker: the same checks on our own HTTP/2 and on httpcore's, their differences named."""

import asyncio
import contextlib
import ssl

import httpx
import pytest
import trustme
from h2.errors import ErrorCodes

from genqueue_lab.emulator import EmulatorProcess, Options
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import ConnectionPool, PoolOptions
from genqueue_worker.providers.gemini_errors import error_of_transport

from .http2_peer import listening

GENERATE = "/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse"
PROMPT = b'{"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}'
HEADERS = {"x-goog-api-key": "k", "accept-encoding": "identity"}


@pytest.fixture(params=["h2", "httpcore"])
def transport(request):
    """Return the name of each transport in its turn."""
    return request.param


@pytest.fixture(scope="module")
def authority():
    """Return who signs the peer's certificate."""
    return trustme.CA()


@pytest.fixture
async def peer(authority):
    """Return a server behind TLS that answers as it is told."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["http/1.1", "h2"])
    async with listening(context) as made:
        made.url = f"https://127.0.0.1:{made.port}/"
        yield made


@pytest.fixture
async def opened(transport, authority, peer):
    """Return a function that makes a pool over the transport; all are closed before the peer is."""
    async with contextlib.AsyncExitStack() as pools:
        yield lambda **options: pools.enter_async_context(Client(transport, authority.cert_pem.bytes(), **options))


@pytest.fixture(scope="module")
def small():
    """Return an emulator that takes four streams on a connection."""
    with EmulatorProcess(Options(max_concurrent_streams=4)) as running:
        yield running


class Client(httpx.AsyncClient):
    """A client over a pool, as an endpoint has it."""

    def __init__(self, transport, ca_pem, read_timeout=20.0, **options):
        connection = ConnectionOptions(read_timeout=read_timeout, ca_pem=ca_pem, transport=transport)
        self.pool = ConnectionPool(PoolOptions(connection, **options))
        super().__init__(transport=self.pool, timeout=None, trust_env=False)

    async def ask(self, url):
        """Send a request and return its answer once there is a head."""
        return await self.send(self.build_request("POST", url, content=b"{}"), stream=True)


async def chunk(answer):
    """Return the next chunk of an answer."""
    if not hasattr(answer, "chunks"):
        answer.chunks = answer.aiter_bytes()
    return await asyncio.wait_for(anext(answer.chunks), 5)


async def begun(client, peer, word=b"a"):
    """Return an answer whose first chunk was read, and the server's side of it."""
    asking = asyncio.create_task(client.ask(peer.url))
    asked = await peer.next()
    asked.say(word, first=True)
    answer = await asking
    assert await chunk(answer) == word
    return answer, asked


async def test_each_chunk_is_delivered_when_it_is_on_the_wire(opened, peer):
    """A chunk is read before the next one was sent; nothing waits for a buffer to fill."""
    client = await opened()
    answer, asked = await begun(client, peer)
    for word in (b"b", b"cc", b"d" * 40_000):
        asked.say(word[:16_384])
        assert await chunk(answer) == word[:16_384]
    asked.say(b"e", last=True)
    assert [rest async for rest in answer.chunks] == [b"e"]
    await answer.aclose()
    assert client.pool.counters().protocols == {"h2": 1}


async def test_a_long_stream_is_not_cut_by_timeouts_that_add_up(transport, small):
    """An answer may take longer in all than the server may be silent."""
    with small.paced(ttft=0.1, tpot=0.05, tokens=20):
        async with Client(transport, small.ca_file.read_bytes(), read_timeout=0.8) as client:
            answer = await client.post(small.url + GENERATE, content=PROMPT, headers=HEADERS)
    assert answer.http_version == "HTTP/2"
    assert '"finishReason":"STOP"' in answer.text


async def test_silence_ends_its_own_stream_alone(opened, peer):
    """A server silent for the read timeout has the stream reset; another on the same connection goes on."""
    client = await opened(read_timeout=0.3)
    silent, asked = await begun(client, peer)
    other, others = await begun(client, peer)
    assert others.peer is asked.peer
    with pytest.raises(httpx.ReadTimeout, match=r"nothing came for 0\.3 s"):
        await chunk(silent)
    await silent.aclose()
    await asyncio.wait_for(asked.left.wait(), 5)
    others.say(b"b", last=True)
    assert await chunk(other) == b"b"
    await other.aclose()


async def test_who_leaves_resets_the_stream(opened, peer):
    """Before the head and after the first chunk: the server hears it, and the connection carries the next request."""
    client = await opened()
    for before_head in (True, False):
        if before_head:
            asking = asyncio.create_task(client.ask(peer.url))
            asked = await peer.next()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        else:
            answer, asked = await begun(client, peer)
            reading = asyncio.create_task(chunk(answer))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await answer.aclose()
        await asyncio.wait_for(asked.left.wait(), 5)
    answer, asked = await begun(client, peer)
    asked.say(b"b", last=True)
    assert await chunk(answer) == b"b"
    await answer.aclose()
    assert (client.pool.counters().live_streams, len(peer.peers)) == (0, 1)


async def test_several_connections_before_a_stall_at_the_server_s_limit(opened, peer):
    """Twelve requests to a server that takes three at once are all with it before any is answered."""
    peer.allowed = 3
    client = await opened(warm_connections=1)
    warming = asyncio.create_task(client.pool.warm(lambda: client.build_request("POST", peer.url, content=b"{}")))
    (await peer.next()).say(b"", first=True, last=True)
    await warming
    asking = [asyncio.create_task(client.ask(peer.url)) for _ in range(12)]
    asked = [await peer.next() for _ in asking]
    for one in asked:
        one.say(b"a", first=True, last=True)
    for one in asking:
        await (await one).aclose()
    assert max(len(one.asked) for one in peer.peers) <= 4
    assert client.pool.counters().connections >= 4


async def test_a_server_that_names_no_limit_takes_what_we_send(opened, peer):
    """Twenty requests share the connections there are under load."""
    peer.allowed = None
    client = await opened()
    asking = [asyncio.create_task(client.ask(peer.url)) for _ in range(20)]
    for one in [await peer.next() for _ in asking]:
        one.say(b"a", first=True, last=True)
    for one in asking:
        await (await one).aclose()
    assert len(peer.peers) == 2


async def test_a_cold_start_at_the_server_s_limit(transport, small):
    """The server refuses what is too much before it has said what that is: all get through, none waits for another."""
    with small.paced(ttft=0, tpot=3600):
        async with Client(transport, small.ca_file.read_bytes()) as client:
            url = small.url + GENERATE
            asked = [client.build_request("POST", url, content=PROMPT, headers=HEADERS) for _ in range(10)]
            answers = await asyncio.gather(*(client.send(one, stream=True) for one in asked))
            assert [answer.status_code for answer in answers] == [200] * 10
            assert small.stats()["totals"]["live"] == 10
            for answer in answers:
                await answer.aclose()
            await asyncio.to_thread(small.wait, live_at_most=0)


async def test_what_the_server_did_nothing_about_is_sent_again(opened, peer):
    """REFUSED_STREAM is nobody's error but the pool's."""
    client = await opened()
    asking = asyncio.create_task(client.ask(peer.url))
    (await peer.next()).reset(ErrorCodes.REFUSED_STREAM)
    (await peer.next()).say(b"a", first=True, last=True)
    await (await asking).aclose()
    assert client.pool.counters().resent == 1


async def failure(client, url):
    """Return the code of a request's error, and whether it may be tried again."""
    with pytest.raises(httpx.TransportError) as raised:
        await client.ask(url)
    found = error_of_transport(raised.value)
    return found.code, found.retryable


async def test_errors_are_mapped(transport, opened, peer, unused_tcp_port):
    """Each way to fail has one code, whoever found it."""
    client = await opened()
    assert await failure(client, f"https://127.0.0.1:{unused_tcp_port}/") == ("connect_error", True)
    async with Client(transport, trustme.CA().cert_pem.bytes()) as distrustful:
        assert await failure(distrustful, peer.url) == ("connect_error", True)
    asking = asyncio.create_task(failure(client, peer.url))
    (await peer.next()).reset(ErrorCodes.INTERNAL_ERROR)
    assert await asking == ("protocol_error", True)
    asking = asyncio.create_task(failure(client, peer.url))
    (await peer.next()).peer.transport.abort()
    assert await asking == ("connection_lost", True)
    request = client.build_request("GET", peer.url, headers={"x-goog-api-key": "a\nb"})
    with pytest.raises(httpx.LocalProtocolError, match="x-goog-api-key: its value holds"):
        await client.send(request)


async def test_goodbye(transport, opened, peer):
    """GOAWAY: new requests go elsewhere. Ours reads what goes on to its end; with httpcore it is an error."""
    client = await opened()
    answer, asked = await begun(client, peer)
    asked.peer.goaway(asked.id)
    if transport == "h2":
        asked.say(b"b", last=True)
        assert await chunk(answer) == b"b"
    else:
        with pytest.raises(httpx.RemoteProtocolError, match="GOAWAY"):
            await chunk(answer)
    await answer.aclose()
    other, others = await begun(client, peer)
    assert others.peer is not asked.peer
    await other.aclose()
    assert client.pool.counters().ended == {"goodbye": 1}


async def test_the_total_timeout_ends_what_still_goes_on(opened, peer):
    """Whoever bounds a request in all has it reset by then, whatever still comes."""
    client = await opened(total_timeout=0.3)
    answer, asked = await begun(client, peer)
    with pytest.raises(httpx.ReadTimeout, match=r"longer than 0\.3 s in all"):
        await chunk(answer)
    await answer.aclose()
    await asyncio.wait_for(asked.left.wait(), 5)
    with pytest.raises(httpx.ReadTimeout, match=r"longer than 0\.3 s in all"):
        await client.ask(peer.url)
    assert client.pool.counters().live_streams == 0
