"""Connections to the emulator: how many, how full, how they come back, and that they are HTTP/2."""

import asyncio
import contextlib
import dataclasses
import json
import signal
import socket
import ssl
import subprocess
import sys

import httpx
import pytest
import trustme

from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import ConnectionPool, PoolCounters, PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.openai import OpenAIProvider
from genqueue_worker.providers.seam import ProviderRequest, Route

REQUEST = ProviderRequest("gemini-3-pro-preview", [{"role": "user", "parts": [{"text": "hi"}]}])
FOR_EVER = 3600.0


def counts(counters):
    """Return what is open, live, sent and sent again."""
    return PoolCounters(counters.connections, counters.live_streams, counters.requests, counters.resent)


def route_to(url, ca_file):
    """Return a way to a server on this machine."""
    return Route("emulator", url, "a-key", str(ca_file))


async def last_chunk(provider, route):
    """Return the last chunk of an answer."""
    async with contextlib.aclosing(provider.stream(REQUEST, route)) as stream:
        return [chunk async for chunk in stream][-1]


async def refusal(provider, route):
    """Return the error of a request that fails."""
    with pytest.raises(ProviderError) as raised:
        await last_chunk(provider, route)
    return raised.value


async def test_warm_up_opens_connections_before_they_are_needed(own_emulator):
    """The connections of the start speak HTTP/2, and requests take them."""
    route = route_to(own_emulator.url, own_emulator.ca_file)
    async with GeminiProvider() as provider:
        assert await provider.warm(route) is True
        assert counts(provider.counters(route)) == PoolCounters(connections=2, live_streams=0, requests=2)
        await last_chunk(provider, route)
        seen = own_emulator.stats()
    assert seen["protocols"] == {"h2": 2}
    assert seen["paths"]["/v1beta/models"] == 2


async def test_300_streams_at_once_take_four_connections_and_none_waits(own_emulator):
    """More streams than one connection holds open further connections, none of them fuller than its cap."""
    route = route_to(own_emulator.url, own_emulator.ca_file)
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    async with GeminiProvider() as provider:
        streams = [provider.stream(REQUEST, route) for _ in range(300)]
        await asyncio.wait_for(asyncio.gather(*(anext(stream) for stream in streams)), 20)
        seen = own_emulator.stats()
        assert counts(provider.counters(route)) == PoolCounters(connections=4, live_streams=300, requests=300)
        await asyncio.gather(*(stream.aclose() for stream in streams))
        await asyncio.to_thread(own_emulator.wait, cancelled_at_least=300)
    assert seen["totals"]["live"] == 300
    assert seen["protocols"] == {"h2": 4}
    assert max(connection["peak"] for connection in seen["connections"]) <= 90


async def test_racing_first_requests_share_connections(own_emulator):
    """Fifty requests before any connection is open dial twice, as many as there are under load, not fifty times."""
    route = route_to(own_emulator.url, own_emulator.ca_file)
    async with GeminiProvider() as provider:
        await asyncio.gather(*(last_chunk(provider, route) for _ in range(50)))
    assert own_emulator.stats()["protocols"] == {"h2": 2}


async def test_a_full_pool_is_an_error_to_try_again(own_emulator):
    """One stream more than all connections hold is refused when no place gets free."""
    route = route_to(own_emulator.url, own_emulator.ca_file)
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    options = GeminiOptions(pool=PoolOptions(streams_per_connection=1, max_connections=1, place_timeout=0.1))
    async with GeminiProvider(options) as provider, contextlib.aclosing(provider.stream(REQUEST, route)) as first:
        await anext(first)
        found = await refusal(provider, route)
    assert (found.code, found.retryable) == ("connections_full", True)


class Restartable:
    """An emulator that keeps its certificates and its port when it is started again."""

    def __init__(self, directory):
        self._directory, self._ready = directory, directory / "ready"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    async def start(self):
        """Start the process and return the way to it."""
        self._ready.unlink(missing_ok=True)
        pace = ["--ttft=0", f"--tpot={FOR_EVER}"]
        options = [f"--port={self._port}", f"--directory={self._directory}", f"--ready-file={self._ready}", *pace]
        command = [sys.executable, "-m", "genqueue_lab.emulator", *options]
        self._process = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(15):
            while not self._ready.exists():  # noqa: ASYNC110 - a file tells; there is no event to wait for
                await asyncio.sleep(0.01)
        ready = json.loads(self._ready.read_text())
        return route_to(ready["url"], ready["ca_file"])

    def kill(self):
        """End the process at once; the system resets its connections."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


async def test_connections_come_back_after_the_server_died(tmp_path):
    """A killed server ends its streams with an error to try again; started again, the same pool reaches it."""
    server = Restartable(tmp_path)
    route = await server.start()
    async with GeminiProvider() as provider:
        assert await provider.warm(route) is True
        async with contextlib.aclosing(provider.stream(REQUEST, route)) as stream:
            await anext(stream)
            server.kill()
            with pytest.raises(ProviderError) as cut:
                await anext(stream)
        assert (cut.value.code, cut.value.retryable) == ("connection_lost", True)
        away = await refusal(provider, route)
        assert (away.code, away.retryable) == ("connect_error", True)
        await server.start()
        try:
            async with contextlib.aclosing(provider.stream(REQUEST, route)) as stream:
                assert (await anext(stream)).entries
        finally:
            server.kill()
        # Of the two that broke none is counted, and one was needed since.
        assert provider.counters(route).connections == 1


class OldServer:
    """A server behind TLS that knows HTTP/1.1 alone, and says so by ALPN as told."""

    def __init__(self, directory, alpn):
        authority, self._tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.cert_pem.write_to_path(directory / "ca.pem")
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        if alpn:
            self._tls.set_alpn_protocols(["http/1.1"])
        self.ca_pem = authority.cert_pem.bytes()
        self.ca_file = directory / "ca.pem"
        self.go_on, self._serving = asyncio.Event(), []

    @contextlib.asynccontextmanager
    async def listening(self, *, tls=True):
        """Answer while the block runs."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls if tls else None) as server:
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self
        await asyncio.gather(*self._serving)

    async def _serve(self, reader, writer):
        self._serving.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0))
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
                await self.go_on.wait()
                writer.write(b"1\r\nb\r\n0\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def pool_of(server, versions="any", **options):
    """Return a pool that trusts a server and speaks these versions."""
    return ConnectionPool(PoolOptions(ConnectionOptions(ca_pem=server.ca_pem, versions=versions, **options)))


async def test_a_server_without_http2_is_told_and_not_used(tmp_path):
    """Over HTTP/1.1 every stream would take a connection of its own: an error says so."""
    async with OldServer(tmp_path, alpn=True).listening() as server, GeminiProvider() as provider:
        route = route_to(server.url, server.ca_file)
        assert await provider.warm(route) is False
        found = await refusal(provider, route)
        assert dict(provider.counters(route).handshakes) == {"failed": 3}
    assert (found.code, found.retryable) == ("protocol_error", True)
    assert "does not speak HTTP/2" in found.message


@pytest.mark.parametrize("kind", ["alpn", "no alpn", "alert", "plain"])
async def test_http1_where_nothing_else_is_offered(tmp_path, kind):
    """Where it may be spoken: chunk by chunk, a connection for each request, used again, and counted as what it is."""
    async with contextlib.AsyncExitStack() as running:
        server = await running.enter_async_context(
            OldServer(tmp_path, alpn=kind == "alpn").listening(tls=kind != "plain")
        )
        url = await running.enter_async_context(strict_door(server)) if kind == "alert" else server.url
        pool = pool_of(server)
        client = await running.enter_async_context(httpx.AsyncClient(transport=pool, timeout=None))
        answers = await asyncio.gather(
            *(client.send(client.build_request("POST", url, content=b"{}"), stream=True) for _ in range(3))
        )
        bodies = [answer.aiter_raw() for answer in answers]
        assert [await anext(body) for body in bodies] == [b"a"] * 3
        assert dict(pool.counters().protocols) == {"http/1.1": 3}
        server.go_on.set()
        assert [[rest async for rest in body] for body in bodies] == [[b"b"]] * 3
        await client.post(url, content=b"{}")
        counters = pool.counters()
        assert (counters.live_streams, counters.requests, counters.reused) == (0, 4, 1)
        assert dict(counters.handshakes) == {"http/1.1": 3}
    assert answers[0].http_version == "HTTP/1.1"


async def test_http2_wherever_it_is_offered(own_emulator):
    """A server that has both gets no chance to choose the older one."""
    async with httpx.AsyncClient(
        transport=ConnectionPool(
            PoolOptions(ConnectionOptions(ca_pem=own_emulator.ca_file.read_bytes(), versions="any"))
        )
    ) as client:
        answer = await client.get(own_emulator.url + "/v1beta/models", headers={"x-goog-api-key": "k"})
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")


@contextlib.asynccontextmanager
async def strict_door(server):
    """Stand before a server as those do that end a handshake in which nothing they know is offered (RFC 7301, 3.2)."""

    async def serve(reader, writer):
        hello = await reader.read(4096)
        if b"http/1.1" not in hello:
            writer.write(bytes.fromhex("15030300020278"))
            await reader.read()
            writer.close()
            return
        port = httpx.URL(server.url).port
        behind, before = await asyncio.open_connection("127.0.0.1", port)
        before.write(hello)
        await asyncio.gather(carry(reader, before), carry(behind, writer))

    async def carry(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as door:
        yield f"https://127.0.0.1:{door.sockets[0].getsockname()[1]}"


async def test_who_leaves_an_http1_answer_ends_its_connection(tmp_path):
    """The server notices, and the next request takes another connection."""
    async with OldServer(tmp_path, alpn=True).listening() as server:
        pool = pool_of(server)
        async with httpx.AsyncClient(transport=pool, timeout=None) as client:
            answer = await client.send(client.build_request("POST", server.url, content=b"{}"), stream=True)
            await answer.aclose()
            server.go_on.set()
            assert (await client.post(server.url, content=b"{}")).text == "ab"
            assert dict(pool.counters().handshakes) == {"http/1.1": 2}


@contextlib.asynccontextmanager
async def plain_server(answer):
    """Run a server of HTTP/1.1 without TLS that says the same to every request; give its URL."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_what_nobody_asked_for_is_no_answer():
    """Some servers say that an idle connection took too long; the next request is not told so."""
    late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"
    pool = ConnectionPool(PoolOptions(ConnectionOptions(versions="http/1.1")))
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
    async with plain_server(answer + late) as url, httpx.AsyncClient(transport=pool) as client:
        assert [(await client.get(url)).text for _ in range(2)] == ["ab", "ab"]
    assert pool.counters().handshakes == {"http/1.1": 2}


async def test_requests_over_http1_take_turns_on_its_connections():
    """A connection that has just served is given to the next one once it can serve again."""
    pool = ConnectionPool(PoolOptions(ConnectionOptions(versions="http/1.1"), streams_per_connection=5))
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
    async with plain_server(answer) as url, httpx.AsyncClient(transport=pool, timeout=None) as client:

        async def ask_often():
            return [(await client.get(url)).text for _ in range(10)]

        assert await asyncio.gather(*(ask_often() for _ in range(20))) == [["ab"] * 10] * 20
    assert pool.counters().resent == 0


async def test_a_request_over_http1_may_be_cancelled_at_any_moment():
    """The connection serves again or ends; it is never one that only seems free."""
    pool = ConnectionPool(PoolOptions(ConnectionOptions(versions="http/1.1")))
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
    async with plain_server(answer) as url, httpx.AsyncClient(transport=pool) as client:
        for turns in range(25):
            await client.get(url)
            asking = asyncio.create_task(client.get(url))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert pool.counters().live_streams == 0
        assert (await client.get(url)).text == "ab"
    assert pool.counters().resent == 0


async def test_a_server_that_never_answers_the_handshake_is_a_connect_timeout():
    """Connecting has its own bound."""
    done = asyncio.Event()

    async def silent(reader, writer):
        await done.wait()
        writer.close()

    options = GeminiOptions(pool=PoolOptions(ConnectionOptions(connect_timeout=0.2)))
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server, GeminiProvider(options) as provider:
        port = server.sockets[0].getsockname()[1]
        found = await refusal(provider, Route("silent", f"https://127.0.0.1:{port}", "k"))
        done.set()
    assert (found.code, found.retryable) == ("connect_timeout", True)


async def test_an_openai_compatible_server_of_http1_serves(own_emulator):
    """Whole answers as over HTTP/2, a connection for each, and the metric says what they are."""
    own_emulator.set(ttft=0.02, tpot=0.002, tokens=5)
    where, ca_file = own_emulator.url + "/v1", str(own_emulator.ca_file)
    route = Route("old", where, "a-key", ca_file, kind="openai", versions="http/1.1")
    async with contextlib.aclosing(OpenAIProvider()) as provider:
        request = dataclasses.replace(REQUEST, model="gpt-4.1-mini")
        async with contextlib.aclosing(provider.stream(request, route)) as stream:
            chunks = [chunk async for chunk in stream]
        assert dict(provider.counters(route).protocols) == {"http/1.1": 1}
    assert any(chunk.finish_reason for chunk in chunks)
    assert own_emulator.stats()["protocols"] == {"http/1.1": 1}
