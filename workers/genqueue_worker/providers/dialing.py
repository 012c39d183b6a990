"""From an address to an HTTP/2 connection."""

import asyncio
import functools
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Any

import certifi
import httpx

from genqueue_worker.providers.http2 import ConnectionOptions, Http2Connection

#: Seconds one address of a host may take before the next is tried beside it: RFC 8305, 8.
_HEAD_START = 0.25

Address = tuple[int, int, int, str, tuple[Any, ...]]


async def dial(url: httpx.URL, options: ConnectionOptions, on_leaving: Callable[[], None]) -> Http2Connection:
    """Connect to a URL's host, with TLS for https.

    Raises:
        httpx.UnsupportedProtocol: the URL is no http or https URL.
        httpx.ConnectTimeout: it took longer than `connect_timeout`.
        httpx.ConnectError: nobody is there, or whoever is has no certificate we trust.
        httpx.RemoteProtocolError: the server does not speak HTTP/2.
    """
    if url.scheme not in {"http", "https"} or not url.host:
        raise httpx.UnsupportedProtocol(f"{url.scheme}://{url.host}: expected http:// or https:// and a host")
    where = f"{url.host}:{_port(url)}"
    try:
        async with asyncio.timeout(options.connect_timeout):
            connection = await _connect(url, options, on_leaving)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"{where} did not connect within {options.connect_timeout:g} s") from error
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{where}: {error}") from error
    if url.scheme == "https" and connection.protocol != "h2":
        await connection.aclose()
        raise httpx.RemoteProtocolError(f"{where} does not speak HTTP/2")
    return connection


async def _connect(url: httpx.URL, options: ConnectionOptions, on_leaving: Callable[[], None]) -> Http2Connection:
    loop = asyncio.get_running_loop()
    secure = url.scheme == "https"
    context = trust(options.ca_pem) if secure else None
    reached = await _reach(url.host, _port(url), options.local_address)
    try:
        _, connection = await loop.create_connection(
            lambda: Http2Connection(options, on_leaving),
            sock=reached,
            ssl=context,
            server_hostname=url.host if secure else None,
        )
    except BaseException:
        reached.close()
        raise
    return connection


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


@functools.lru_cache(maxsize=16)
def trust(ca_pem: bytes | None) -> ssl.SSLContext:
    """Return TLS settings that trust the system's authorities, and those of a PEM text, and offer HTTP/2 alone."""
    system = ssl.get_default_verify_paths()
    # Where the system has no authorities that OpenSSL finds, as on macOS, certifi's stand in.
    context = ssl.create_default_context(cafile=None if system.cafile or system.capath else certifi.where())
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
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
