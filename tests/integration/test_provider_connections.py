"""Connections to the emulator: how many, how full, how they come back, and that they are HTTP/2."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys

import pytest
import trustme

from genqueue_worker.providers.connections import PoolCounters, PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.http2 import ConnectionOptions
from genqueue_worker.providers.seam import ProviderRequest, Route

REQUEST = ProviderRequest("gemini-3-pro-preview", [{"role": "user", "parts": [{"text": "hi"}]}])
FOR_EVER = 3600.0


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
        assert provider.counters(route) == PoolCounters(connections=2, live_streams=0, requests=2)
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
        assert provider.counters(route) == PoolCounters(connections=4, live_streams=300, requests=300)
        await asyncio.gather(*(stream.aclose() for stream in streams))
        await asyncio.to_thread(own_emulator.wait, cancelled_at_least=300)
    assert seen["totals"]["live"] == 300
    assert seen["protocols"] == {"h2": 4}
    assert sorted(connection["peak"] for connection in seen["connections"]) == [30, 90, 90, 90]


async def test_racing_first_requests_share_one_connection(own_emulator):
    """Fifty requests before any connection is open do not dial fifty times."""
    route = route_to(own_emulator.url, own_emulator.ca_file)
    async with GeminiProvider() as provider:
        await asyncio.gather(*(last_chunk(provider, route) for _ in range(50)))
    assert own_emulator.stats()["totals"]["connections"] == 1


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


@pytest.fixture
async def old_server(tmp_path):
    """Return the way to a TLS server that knows HTTP/1.1 alone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])

    async def answer(reader, writer):
        await reader.readexactly(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await reader.read(-1)  # closing at once could overtake the answer
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        yield route_to(f"https://127.0.0.1:{port}", tmp_path / "ca.pem")


async def test_a_server_without_http2_is_told_and_not_used(old_server):
    """Over HTTP/1.1 every stream would take a connection of its own: an error says so."""
    async with GeminiProvider() as provider:
        assert await provider.warm(old_server) is False
        found = await refusal(provider, old_server)
    assert (found.code, found.retryable) == ("protocol_error", True)
    assert "does not speak HTTP/2" in found.message


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
