"""From a host's addresses to a connection, and what a request becomes on it."""

import asyncio
import socket

import httpx
import pytest
from hpack import NeverIndexedHeaderTuple

from genqueue_worker.providers import dialing
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import ConnectionPool, PoolOptions
from genqueue_worker.providers.dialing import dial
from genqueue_worker.providers.transport import request_fields

V4, V6 = socket.AF_INET, socket.AF_INET6


class Addresses:
    """A host with addresses of which some are silent and some refuse."""

    def __init__(self, monkeypatch, *found):
        self.tried, self.cancelled, self.found = [], [], found
        monkeypatch.setattr(dialing, "_HEAD_START", 0.01)
        monkeypatch.setattr(dialing, "_try", self.answer)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.look_up)

    async def look_up(self, host, port, **options):
        """Return the addresses as the resolver does."""
        return [(family, socket.SOCK_STREAM, 0, "", (name, port)) for family, name in self.found]

    async def answer(self, address, local_address):
        """Connect, refuse or stay silent, by the address's name."""
        name = address[4][0]
        self.tried.append(name)
        if name.startswith("silent"):
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(name)
        if name.startswith("refuses"):
            raise ConnectionRefusedError(name)
        return socket.socket()


async def test_a_silent_address_does_not_hold_up_the_next(monkeypatch):
    """Families take turns, each try has a head start, and what is not needed any more is called off."""
    host = Addresses(monkeypatch, (V6, "silent-a"), (V6, "silent-b"), (V4, "refuses"), (V4, "answers"))
    (await dialing._reach("x", 443, None)).close()
    assert host.tried == ["silent-a", "refuses", "silent-b", "answers"]
    assert host.cancelled == ["silent-a", "silent-b"]


async def test_the_last_refusal_is_told(monkeypatch):
    """When every address refuses, the caller learns why."""
    Addresses(monkeypatch, (V6, "refuses-a"), (V4, "refuses-b"))
    with pytest.raises(httpx.ConnectError, match="x:443: refuses-b"):
        await dial(httpx.URL("https://x"), ConnectionOptions(), lambda: None)


@pytest.mark.parametrize("url", ["ftp://x", "https://", "/path"])
async def test_other_addresses_than_http_are_refused(url):
    """What is no URL of a server is told before anything is tried."""
    with pytest.raises(httpx.UnsupportedProtocol, match="expected http:// or https:// and a host"):
        await dial(httpx.URL(url), ConnectionOptions(), lambda: None)


async def test_closing_while_a_connection_is_being_made_is_told():
    """Whoever waits for it gets an error, not a cancellation that nobody asked for."""
    asked = asyncio.Event()

    async def silent(reader, writer):
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        pool = ConnectionPool(PoolOptions())
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        waiting = asyncio.create_task(pool.handle_async_request(httpx.Request("GET", url)))
        await asked.wait()
        await pool.aclose()
        with pytest.raises(httpx.ConnectError, match="closed by us"):
            await waiting


def test_a_request_s_fields_are_those_of_http2():
    """Host becomes :authority, names are lower case, a connection's own fields are left out, keys are secrets."""
    headers = {"Host": "y", "X-Goog-Api-Key": "k", "Connection": "close", "Transfer-Encoding": "chunked", "Accept": "a"}
    fields = request_fields(httpx.Request("GET", "https://x:1/a?b=%20c", headers=headers))
    assert fields == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"y"),
        (b":path", b"/a?b=%20c"),
        (b"x-goog-api-key", b"k"),
        (b"accept", b"a"),
    ]
    assert [field for field in fields if isinstance(field, NeverIndexedHeaderTuple)] == [(b"x-goog-api-key", b"k")]


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_value_that_would_be_two_is_not_sent(value):
    """Line ends and zeros are refused, and the value is not repeated: it may be a key."""
    with pytest.raises(httpx.LocalProtocolError, match="x-goog-api-key: its value holds") as raised:
        request_fields(httpx.Request("GET", "https://x", headers={"x-goog-api-key": value}))
    assert value not in str(raised.value)
