"""What the pool asks of a connection, and httpx's requests and responses on our own HTTP/2."""

import re
from collections.abc import AsyncIterator
from typing import Protocol

import httpx
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from genqueue_worker.providers.http2 import Http2Connection
from genqueue_worker.providers.streams import Fields, Http2Stream

#: Fields that HTTP/2 has no use for, and `host`, which it sends as `:authority`.
_LEFT_OUT = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"}
)
#: Fields that are secrets.
_SECRET = frozenset({b"x-goog-api-key", b"authorization", b"proxy-authorization", b"cookie"})

_UNSENDABLE = re.compile(rb"[\r\n\0]")


class Line(Protocol):
    """One open connection that takes requests."""

    #: What it speaks, as TLS names it: "h2" or "http/1.1".
    version: str
    #: Whether it asks a silent server for a sign of life, which keeps it open too.
    pings: bool

    @property
    def max_streams(self) -> int:
        """Requests the server takes at once."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether the server has kept a ping waiting."""
        ...

    @property
    def goodbye(self) -> bool:
        """Whether the server said that it takes no more."""
        ...

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it."""
        ...

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there; whoever leaves earlier withdraws it.

        Raises:
            Unprocessed: the server did nothing about the request; it may be sent on another connection.
            httpx.TransportError: anything else went wrong.
        """
        ...

    async def aclose(self) -> None:
        """Close; streams end with an error."""
        ...


class Http2Line:
    """A connection of our own."""

    version, pings = "h2", True

    def __init__(self, connection: Http2Connection) -> None:
        self._connection = connection

    @property
    def max_streams(self) -> int:
        """Requests the server takes at once."""
        return self._connection.max_streams

    @property
    def doubtful(self) -> bool:
        """Whether the server has kept a ping waiting."""
        return self._connection.doubtful

    @property
    def goodbye(self) -> bool:
        """Whether the server said GOAWAY."""
        return self._connection.goodbye

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it."""
        return self._connection.closed.is_set()

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there; whoever leaves earlier resets the stream.

        Raises:
            Unprocessed: the server did nothing about the request; it may be sent on another connection.
            httpx.TransportError: anything else went wrong.
        """
        head, body = request_fields(request), request.content
        stream = self._connection.open(head, ends=not body)
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
        await self._connection.aclose()


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
    authority, fields = url.netloc, list[tuple[bytes, bytes]]()
    check_values(request)
    for raw, value in request.headers.raw:
        name = raw.lower()
        if name == b"host":
            authority = value
        elif name not in _LEFT_OUT:
            kind = NeverIndexedHeaderTuple if name in _SECRET else HeaderTuple
            fields.append(kind(name, value))
    return [
        (b":method", request.method.encode("ascii")),
        (b":scheme", url.raw_scheme),
        (b":authority", authority),
        (b":path", url.raw_path),
        *fields,
    ]


def check_values(request: httpx.Request) -> None:
    """Raise httpx.LocalProtocolError, without the value, which may be a key, for a header that cannot be sent."""
    for name, value in request.headers.raw:
        if _UNSENDABLE.search(value):
            raise httpx.LocalProtocolError(f"{name.lower().decode()}: its value holds characters that cannot be sent")
