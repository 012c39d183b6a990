"""httpx's requests and responses on HTTP/2 connections."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from genqueue_worker.providers.dialing import dial
from genqueue_worker.providers.http2 import ConnectionOptions, Http2Connection
from genqueue_worker.providers.streams import Fields, Http2Stream

#: Fields that HTTP/2 has no use for, and `host`, which it sends as `:authority`.
_LEFT_OUT = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"}
)
#: Fields that are secrets.
_SECRET = frozenset({b"x-goog-api-key", b"authorization", b"proxy-authorization", b"cookie"})

_UNSENDABLE = frozenset(b"\r\n\0")


class Connection:
    """One HTTP/2 connection to the host of a URL, dialled at once; it is not opened again.

    `on_leaving` is called once, as soon as it takes no more requests.
    """

    def __init__(self, url: httpx.URL, options: ConnectionOptions, on_leaving: Callable[["Connection"], None]) -> None:
        self._on_leaving = on_leaving
        self._dialling = asyncio.create_task(dial(url, options, lambda: on_leaving(self)))
        self._dialling.add_done_callback(self._dialled)

    @property
    def established(self) -> Http2Connection | None:
        """The connection, once it is one."""
        done = self._dialling.done() and not self._dialling.cancelled() and self._dialling.exception() is None
        return self._dialling.result() if done else None

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it."""
        http2 = self.established
        return self._dialling.done() and (http2 is None or http2.closed.is_set())

    @property
    def doubtful(self) -> bool:
        """Whether the server has kept a ping waiting."""
        http2 = self.established
        return http2 is not None and http2.doubtful

    def capacity(self, limit: int) -> int:
        """Return how many streams may be open at once: `limit`, or what the server allows when that is less."""
        http2 = self.established
        return min(limit, http2.max_streams) if http2 else limit

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there; whoever leaves earlier resets the stream.

        Raises:
            Unprocessed: the server did nothing about the request; it may be sent on another connection.
            httpx.TransportError: anything else went wrong.
        """
        head, body = request_fields(request), request.content
        stream = (await self._ready()).open(head, ends=not body)
        try:
            await stream.send(body)
            del body
            status, fields = await stream.head()
        except BaseException:
            stream.close()
            raise
        return httpx.Response(status, headers=fields, stream=_Body(stream), extensions={"http_version": b"HTTP/2"})

    async def aclose(self) -> None:
        """Close; streams end with an error."""
        self._dialling.cancel()
        await asyncio.wait([self._dialling])
        if http2 := self.established:
            await http2.aclose()

    async def _ready(self) -> Http2Connection:
        try:
            return await asyncio.shield(self._dialling)
        except asyncio.CancelledError:
            if self._dialling.cancelled():
                raise httpx.ConnectError("the connection was closed by us") from None
            raise

    def _dialled(self, dialling: asyncio.Task[Http2Connection]) -> None:
        if dialling.cancelled() or dialling.exception() is not None:
            self._on_leaving(self)


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Http2Stream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._stream.read():
            yield data

    async def aclose(self) -> None:
        self._stream.close()


def request_fields(request: httpx.Request) -> Fields:
    """Return a request's header fields as HTTP/2 has them.

    Raises:
        httpx.LocalProtocolError: a field's value cannot be sent.
    """
    url = request.url
    fields: list[tuple[bytes, bytes]] = [
        (b":method", request.method.encode("ascii")),
        (b":scheme", url.raw_scheme),
        (b":authority", request.headers.get("host", url.netloc.decode()).encode("ascii")),
        (b":path", url.raw_path),
    ]
    for raw, value in request.headers.raw:
        name = raw.lower()
        if not _UNSENDABLE.isdisjoint(value):
            # Without the value: it may be a key.
            raise httpx.LocalProtocolError(f"{name.decode()}: its value holds characters that cannot be sent")
        if name not in _LEFT_OUT:
            kind = NeverIndexedHeaderTuple if name in _SECRET else HeaderTuple
            fields.append(kind(name, value))
    return fields
