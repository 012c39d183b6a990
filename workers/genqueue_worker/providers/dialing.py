"""From an address to a connection."""

import asyncio
import functools
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

import certifi
import httpx

from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.http2 import Http2Connection
from genqueue_worker.providers.httpcore_lines import HttpcoreHttp2Line, HttpcoreLine
from genqueue_worker.providers.transport import Http2Line, Line
from genqueue_worker.providers.wire import Wire

#: Seconds one address of a host may take before the next is tried beside it: RFC 8305, 8.
_HEAD_START = 0.25

#: What OpenSSL says when a server has none of the versions offered, an alert of RFC 7301, 3.2; it gives no reason code.
_NO_SUCH_PROTOCOL: Final = "no application protocol"

_WORDS: Final = {"h2": "HTTP/2", "http/1.1": "HTTP/1.1", "any": "HTTP/2 or HTTP/1.1"}

Address = tuple[int, int, int, str, tuple[Any, ...]]


async def dial(url: httpx.URL, options: ConnectionOptions, on_leaving: Callable[[], None]) -> Line:
    """Connect to a URL's host, with TLS for https.

    HTTP/2 alone is offered first, so that a server that has it cannot choose another; only one that takes no such
    offer is asked for HTTP/1.1. Without TLS there is nothing to offer: what may be spoken says what is.

    Raises:
        httpx.UnsupportedProtocol: the URL is no http or https URL.
        httpx.ConnectTimeout: it took longer than `connect_timeout`.
        httpx.ConnectError: nobody is there, or whoever is has no certificate we trust.
        httpx.RemoteProtocolError: the server does not speak what it may.
    """
    if url.scheme not in {"http", "https"} or not url.host:
        raise httpx.UnsupportedProtocol(f"{url.scheme}://{url.host}: expected http:// or https:// and a host")
    where = f"{url.host}:{_port(url)}"
    try:
        async with asyncio.timeout(options.connect_timeout):
            line = await _connect(url, options, on_leaving)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"{where} did not connect within {options.connect_timeout:g} s") from error
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{where}: {error}") from error
    if line is None:
        raise httpx.RemoteProtocolError(f"{where} does not speak {_WORDS[options.versions]}")
    return line


async def _connect(url: httpx.URL, options: ConnectionOptions, on_leaving: Callable[[], None]) -> Line | None:
    """Return a connection in the first version the server takes; None when it takes none."""
    versions = ["h2", "http/1.1"] if options.versions == "any" else [options.versions]
    if url.scheme == "http" and options.versions == "any":
        versions = ["http/1.1"]
    for version in versions:
        door = await _open(url, options, _Door(version, options, on_leaving))
        if door.line is not None:
            return door.line
    return None


class _Door(asyncio.Protocol):
    """Makes the line once TLS has said that the server speaks its version, else hangs up."""

    def __init__(self, version: str, options: ConnectionOptions, on_leaving: Callable[[], None]) -> None:
        self.version = version
        self.line: Line | None = None
        self._options, self._on_leaving = options, on_leaving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = transport.get_extra_info("ssl_object")
        agreed = secured.selected_alpn_protocol() if secured else self.version
        # Many a server of HTTP/1.1 knows no ALPN.
        if agreed != self.version and not (agreed is None and self.version == "http/1.1"):
            cast("asyncio.Transport", transport).abort()
            return
        protocol, self.line = self._made()
        cast("asyncio.Transport", transport).set_protocol(protocol)
        protocol.connection_made(transport)

    def _made(self) -> tuple[asyncio.Protocol, Line]:
        if self.version == "h2" and self._options.transport == "h2":
            connection = Http2Connection(self._options, self._on_leaving)
            return connection, Http2Line(connection)
        wire = Wire()
        kind = HttpcoreHttp2Line if self.version == "h2" else HttpcoreLine
        return wire, kind(wire, self._options.read_timeout, self._on_leaving)


async def _open(url: httpx.URL, options: ConnectionOptions, door: _Door) -> _Door:
    loop = asyncio.get_running_loop()
    secure = url.scheme == "https"
    context = trust(options.ca_pem, door.version) if secure else None
    reached = await _reach(url.host, _port(url), options.local_address)
    try:
        await loop.create_connection(
            lambda: door, sock=reached, ssl=context, server_hostname=url.host if secure else None
        )
    except BaseException as error:
        reached.close()
        if isinstance(error, ssl.SSLError) and _NO_SUCH_PROTOCOL in str(error):
            return door
        raise
    return door


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


@functools.lru_cache(maxsize=16)
def trust(ca_pem: bytes | None, version: str) -> ssl.SSLContext:
    """Return TLS settings that trust the system's authorities, and those of a PEM text, and offer one version alone."""
    system = ssl.get_default_verify_paths()
    # Where the system has no authorities that OpenSSL finds, as on macOS, certifi's stand in.
    context = ssl.create_default_context(cafile=None if system.cafile or system.capath else certifi.where())
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    context.set_alpn_protocols([version])
    return context


async def _reach(host: str, port: int, local_address: str | None) -> socket.socket:
    """Connect to the first of a host's addresses that answers; a slow one does not hold up the next.

    Raises:
        OSError: what the last address failed of.
    """
    loop = asyncio.get_running_loop()
    found = _interleaved([*await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
    if len(found) == 1:
        return await _try(found[0], local_address)
    return await _race(found, local_address)


def _interleaved(found: list[Address]) -> list[Address]:
    """Return addresses with the families taking turns, the first one's first."""
    first = [address for address in found if address[0] == found[0][0]]
    others = [address for address in found if address[0] != found[0][0]]
    turns = itertools.zip_longest(first, others)
    return [address for turn in turns for address in turn if address is not None]


async def _race(found: list[Address], local_address: str | None) -> socket.socket:
    waiting, failure = list(found), OSError("no address was found")
    tries: list[asyncio.Task[socket.socket]] = []
    try:
        while waiting or not all(task.done() for task in tries):
            if waiting:
                tries.append(asyncio.create_task(_try(waiting.pop(0), local_address)))
            pending = [task for task in tries if not task.done()]
            await asyncio.wait(pending, timeout=_HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            for task in (task for task in pending if task.done()):
                tries.remove(task)
                try:
                    return task.result()
                except OSError as error:
                    failure = error
    finally:
        await _call_off(tries)
    raise failure


async def _call_off(tries: list[asyncio.Task[socket.socket]]) -> None:
    """Cancel tries, and close what the late ones reached."""
    for task in tries:
        task.cancel()
    for reached in await asyncio.gather(*tries, return_exceptions=True):
        if isinstance(reached, socket.socket):
            reached.close()


async def _try(address: Address, local_address: str | None) -> socket.socket:
    family, kind, protocol, _, where = address
    reached = socket.socket(family, kind, protocol)
    try:
        reached.settimeout(0)
        if local_address is not None:
            reached.bind((local_address, 0))
        await asyncio.get_running_loop().sock_connect(reached, where)
    except BaseException:
        reached.close()
        raise
    return reached
