"""httpx over one HTTP/2 connection of pyreqwest."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import httpx
from pyreqwest import exceptions
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

T = TypeVar("T")

#: HTTP/2 flow control windows, in bytes. The 64 KB HTTP/2 begins with hold 90 streams of one connection to
#: 640 KB/s at a round trip of 100 ms.
_STREAM_WINDOW = 1024 * 1024
_CONNECTION_WINDOW = 16 * 1024 * 1024

#: pyreqwest's exceptions, the narrower first, and what they are to httpx.
_ERRORS: tuple[tuple[type[exceptions.PyreqwestError], type[httpx.TransportError]], ...] = (
    (exceptions.ConnectTimeoutError, httpx.ConnectTimeout),
    (exceptions.ReadTimeoutError, httpx.ReadTimeout),
    (exceptions.WriteTimeoutError, httpx.WriteTimeout),
    (exceptions.PoolTimeoutError, httpx.PoolTimeout),
    (exceptions.RequestTimeoutError, httpx.ReadTimeout),
    (exceptions.ConnectError, httpx.ConnectError),
    (exceptions.ReadError, httpx.ReadError),
    (exceptions.WriteError, httpx.WriteError),
    (exceptions.NetworkError, httpx.NetworkError),
    (exceptions.DecodeError, httpx.RemoteProtocolError),
    (exceptions.RedirectError, httpx.RemoteProtocolError),
    (exceptions.BuilderError, httpx.UnsupportedProtocol),
    (exceptions.PyreqwestError, httpx.ReadError),
)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Say how one connection is made and kept; times in seconds.

    `read_timeout` bounds each wait for the server: for the answer's head, and between two chunks. There is no
    bound on the whole. `ca_pem` is trusted besides the system's roots, `local_address` is the source address.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    ping_interval: float = 20.0
    ping_timeout: float = 10.0
    ca_pem: bytes | None = None
    local_address: str | None = None


class ConnectionTransport(httpx.AsyncBaseTransport):
    """Carry requests over one HTTP/2 connection, opened by the first request and again after it broke.

    Each chunk is given out as it comes off the wire. Closing a response early resets its stream at the server.
    Who leaves before the answer's head came leaves at once, but pyreqwest 0.15 cannot take the request back: the
    stream is reset when its first byte arrives, or by the read timeout. Until then it counts as `abandoned`.
    httpx's own timeouts are not read: pyreqwest keeps them per client, so `ConnectionOptions` has them.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._client = _build_client(options)
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def abandoned(self) -> int:
        """Streams that nobody waits for and that still take room at the server."""
        return len(self._leaving)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there."""
        await request.aread()
        with httpx_errors():
            outgoing = self._outgoing(request)
            incoming = await self._head(outgoing)
        body = _Body(outgoing, incoming)
        if incoming.version != "HTTP/2.0":
            await body.aclose()
            raise httpx.RemoteProtocolError(f"{request.url.host} answered over {incoming.version}, not HTTP/2")
        extensions = {"http_version": b"HTTP/2"}
        return httpx.Response(
            incoming.status, headers=list(incoming.headers.items()), stream=body, extensions=extensions
        )

    def _outgoing(self, request: httpx.Request) -> StreamRequest:
        builder = self._client.request(request.method, str(request.url))
        try:
            builder = builder.headers(request.headers.multi_items())
        except ValueError:
            # Without the cause, which may quote the value: it may be a key.
            raise httpx.LocalProtocolError("a header's value holds characters that cannot be sent") from None
        # Without the limit pyreqwest reads up to 64 KB of the body before it hands over the head: a whole answer.
        return builder.body_bytes(request.content).streamed_read_buffer_limit(0).build_streamed()

    async def _head(self, outgoing: StreamRequest) -> Response:
        waiting = asyncio.create_task(_enter(outgoing))
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            leaving = asyncio.create_task(_leave(outgoing, waiting))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            raise

    async def aclose(self) -> None:
        """Close the connection; streams on it end with an error."""
        await self._client.close()
        await asyncio.gather(*self._leaving)


async def _enter(outgoing: StreamRequest) -> Response:
    return await outgoing.__aenter__()


async def _leave(outgoing: StreamRequest, waiting: asyncio.Task[Response]) -> None:
    with contextlib.suppress(exceptions.PyreqwestError):
        await waiting
        await outgoing.__aexit__(None, None, None)


async def _heeding_cancel(reading: Awaitable[T]) -> T:
    """Await one of pyreqwest's futures, which swallow a cancellation that comes as they end."""
    task = asyncio.current_task()
    cancels = task.cancelling() if task else 0
    result = await reading
    if task and task.cancelling() > cancels:
        raise asyncio.CancelledError
    return result


class _Body(httpx.AsyncByteStream):
    def __init__(self, outgoing: StreamRequest, incoming: Response) -> None:
        self._outgoing = outgoing
        self._reader = incoming.body_reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with httpx_errors():
            # read() would gather a buffer first; read_chunk() gives what one DATA frame brought.
            while (chunk := await _heeding_cancel(self._reader.read_chunk())) is not None:
                yield bytes(chunk)

    async def aclose(self) -> None:
        await self._outgoing.__aexit__(None, None, None)


class httpx_errors(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a keyword
    """Turn pyreqwest's exceptions into httpx's."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, exceptions.PyreqwestError):
            raise _mapped(error) from error


def _mapped(error: exceptions.PyreqwestError) -> httpx.TransportError:
    causes = [cause["message"] for cause in (getattr(error, "details", None) or {}).get("causes") or ()]
    # The deepest cause alone says what happened.
    message = f"{error.message}: {causes[-1]}" if causes else error.message
    if isinstance(error, exceptions.ConnectError) and "http2 error" in causes:
        return httpx.RemoteProtocolError(f"the server does not speak HTTP/2, or broke it ({message})")
    return next(there for here, there in _ERRORS if isinstance(error, here))(message)


def _build_client(options: ConnectionOptions) -> Client:
    builder = (
        ClientBuilder()
        # Without it a client speaks HTTP/1.1, and with http2(True) racing first requests dial once each.
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(_STREAM_WINDOW)
        .http2_initial_connection_window_size(_CONNECTION_WINDOW)
        .http2_keep_alive_interval(timedelta(seconds=options.ping_interval))
        .http2_keep_alive_timeout(timedelta(seconds=options.ping_timeout))
        .http2_keep_alive_while_idle(enabled=True)
        .connect_timeout(timedelta(seconds=options.connect_timeout))
        .read_timeout(timedelta(seconds=options.read_timeout))
        .pool_idle_timeout(None)
        .pool_max_idle_per_host(1)
        .follow_redirects(enable=False)
        .referer(enable=False)
        .no_proxy()  # proxies are a matter of the route, not of the environment
        # httpx decodes by the answer's headers; decoding here as well would gather a buffer first.
        .gzip(enable=False)
        .brotli(enable=False)
        .deflate(enable=False)
        .zstd(enable=False)
    )
    if options.ca_pem is not None:
        builder = builder.add_root_certificate_pem(options.ca_pem)
    if options.local_address is not None:
        builder = builder.local_address(options.local_address)
    return builder.build()
