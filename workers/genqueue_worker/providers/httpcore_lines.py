"""httpcore's HTTP/2 and HTTP/1.1 on connections that we dial.

httpcore reads and writes through `Wire`, by its documented seam for network streams. Withdrawing a request in HTTP/2 is
not part of it: `HttpcoreHttp2Line` does that on the `h2` state that httpcore keeps, under names that it does not
document and that hold for the version we pin.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import h2.exceptions
import httpcore
import httpx
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, StreamReset

from genqueue_worker.providers.streams import Unprocessed
from genqueue_worker.providers.transport import check_values
from genqueue_worker.providers.wire import Wire

#: Bytes of a request's body after which the wait for the server begins anew.
_PIECE: Final = 65536

#: Streams a server may allow that has not said so yet.
_UNKNOWN: Final = 100

#: Bytes of all answers on a connection that may wait to be read, as httpcore has it.
_WINDOW: Final = 2**24

#: What httpcore raises, and `h2` through it, and what it becomes, the narrower first. What we send is checked before:
#: where `h2` or `h11` find it wrong, the server changed the state of the connection. httpcore is told of no
#: timeouts, as one of its own ends all streams of a connection: the line keeps time.
_ERRORS: Final[tuple[tuple[type[Exception], type[httpx.TransportError]], ...]] = (
    (httpcore.ConnectionNotAvailable, Unprocessed),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.NetworkError, httpx.WriteError),
    (httpcore.ProtocolError, httpx.RemoteProtocolError),
    (h2.exceptions.H2Error, httpx.RemoteProtocolError),
    (ValueError, httpx.RemoteProtocolError),  # a status that is no number
)
_FOREIGN: Final = tuple(theirs for theirs, _ in _ERRORS)

# At DEBUG httpcore writes requests into the log, keys among them.
for _name in ("httpcore.http2", "httpcore.http11", "hpack"):
    logging.getLogger(_name).setLevel(logging.INFO)

T = TypeVar("T")

Core = httpcore.AsyncHTTP2Connection | httpcore.AsyncHTTP11Connection


class _Exchange:
    """What is known of a request on its way: its stream, and until when the server may be silent."""

    def __init__(self, wire: Wire, patience: float, on_settings: Callable[[], Awaitable[None]]) -> None:
        self.stream_id: int | None = None
        self._wire, self._patience, self._on_settings = wire, patience, on_settings
        self._timeout: asyncio.Timeout | None = None

    async def within(self, step: Awaitable[T]) -> T:
        """Wait for a step of the exchange, as long as the server may be silent; raises httpx.TransportError."""
        try:
            async with asyncio.timeout(self._patience) as self._timeout:
                return await step
        except TimeoutError:
            raise httpx.ReadTimeout(f"nothing came for {self._patience:g} s") from None
        except _FOREIGN as error:
            raise _translated(error, lost=self._wire.ended) from error

    async def pieces(self, body: bytes) -> AsyncIterator[bytes]:
        """Yield a body in pieces; the server may be silent anew after each."""
        for start in range(0, len(body), _PIECE):
            yield body[start : start + _PIECE]
            self._begin_anew()

    async def traced(self, event: str, facts: dict[str, Any]) -> None:
        """Take in how far httpcore got, by its `trace` extension."""
        if event == "http2.send_request_headers.started":
            self.stream_id = facts["stream_id"]
        elif event == "http2.receive_remote_settings.complete":
            await self._on_settings()
        elif event.endswith(".receive_response_headers.started"):
            self._begin_anew()

    def _begin_anew(self) -> None:
        assert self._timeout is not None  # noqa: S101 - called by what `within` waits for
        self._timeout.reschedule(asyncio.get_running_loop().time() + self._patience)


class HttpcoreLine:
    """A connection of httpcore's that speaks HTTP/1.1: one request at a time; one that is left early ends it."""

    version, pings = "http/1.1", False
    doubtful = False

    def __init__(self, wire: Wire, read_timeout: float, on_leaving: Callable[[], None]) -> None:
        wire.on_end = self._leave
        self._wire, self._patience, self._on_leaving = wire, read_timeout, on_leaving
        self._core: Core | None = None
        self._settled = asyncio.Event()
        self._left = False
        self._live = 0

    @property
    def max_streams(self) -> int:
        """Requests the server takes at once."""
        return 1

    @property
    def goodbye(self) -> bool:
        """Whether the server said that it takes no more, which HTTP/1.1 says by closing."""
        return False

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it."""
        return self._wire.ended

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the answer's head is there; whoever leaves earlier withdraws it.

        Raises:
            Unprocessed: the server did nothing about the request; it may be sent on another connection.
            httpx.TransportError: anything else went wrong.
        """
        check_values(request)
        exchange = _Exchange(self._wire, self._patience, self._settle)
        asked = _asked(request, exchange)
        self._live += 1
        try:
            core = await exchange.within(self._open(asked.url.origin))
            answer = await exchange.within(core.handle_async_request(asked))
        except BaseException:
            self.withdraw(exchange.stream_id)
            self.end()
            raise
        body = _Body(self, exchange, cast("httpcore.AsyncConnectionInterface", answer.stream))
        version = {"http_version": answer.extensions["http_version"]}
        return httpx.Response(answer.status, headers=answer.headers, stream=body, extensions=version)

    async def aclose(self) -> None:
        """Close; streams end with an error."""
        self._leave()
        self._wire.close()
        await self._wire.closed()

    def withdraw(self, stream_id: int | None) -> None:
        """Tell the server that nobody waits for an answer; HTTP/1.1 has no word for that but the end."""

    def end(self) -> None:
        """Count an exchange less; the last one on a connection that takes no more closes it."""
        self._live -= 1
        self._settled.set()
        if self._spent:
            self._leave()
        if self._left and not self._live:
            self._wire.close()

    async def _open(self, origin: httpcore.Origin) -> Core:
        if self._core is None:
            self._core = self._made(origin)
        elif self._left or self._spent or not self._core.is_available():
            raise Unprocessed("the connection takes no more requests")
        return self._core

    async def _settle(self) -> None:
        """Take in that the server has said what it takes."""
        self._settled.set()

    @property
    def _spent(self) -> bool:
        """Whether nothing can be asked any more."""
        core: Any = self._core
        if core is None:
            return False
        if core.is_idle():  # what nobody asked for would be taken for the next answer
            unread: bytes = core._h11_state.trailing_data[0]  # noqa: SLF001
            return bool(unread or self._wire.get_extra_info("is_readable"))
        # Left by one who was cancelled while httpcore took note of the end, it would never be idle again.
        return core.is_closed() or not self._live

    def _made(self, origin: httpcore.Origin) -> Core:
        return httpcore.AsyncHTTP11Connection(origin, self._wire)

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._on_leaving()


class HttpcoreHttp2Line(HttpcoreLine):
    """A connection of httpcore's that speaks HTTP/2, with the frame by which a request is withdrawn.

    It sends no pings, and reads only while somebody waits for an answer.
    """

    version = "h2"

    @property
    def max_streams(self) -> int:
        """Requests the server takes at once."""
        return getattr(self._core, "_max_streams", 1) if self._settled.is_set() else _UNKNOWN

    @property
    def goodbye(self) -> bool:
        """Whether the server said GOAWAY."""
        return getattr(self._core, "_connection_terminated", None) is not None

    def withdraw(self, stream_id: int | None) -> None:
        """Reset a stream that has not ended, at once."""
        state = self._state
        if state is None or stream_id is None:
            return
        try:
            state.reset_stream(stream_id, ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # it has ended, or all have
        self._wire.put(state.data_to_send())

    def end(self) -> None:
        """Count a stream less; between two, give back the window that was taken by what nobody read."""
        if not self._settled.is_set():
            self._leave()  # left while it begins, httpcore has counted but some of its places
        super().end()
        state = self._state
        if state is not None and not self._live and not self._left:
            taken = _WINDOW - state.inbound_flow_control_window
            if taken > _WINDOW // 2:
                state.increment_flow_control_window(taken)
                self._wire.put(state.data_to_send())

    @property
    def _spent(self) -> bool:
        return self._core is not None and not self._core.is_available()

    @property
    def _state(self) -> H2Connection | None:
        return getattr(self._core, "_h2_state", None)

    async def _open(self, origin: httpcore.Origin) -> Core:
        first = self._core is None
        core = await super()._open(origin)
        if not first:
            await self._settled.wait()  # past the server's limit httpcore waits in silence
            if self._live > self.max_streams:
                raise Unprocessed(f"the server allows {self.max_streams} streams at once")
        return core

    async def _settle(self) -> None:
        core: Any = self._core
        if core._max_streams == 1:  # noqa: SLF001 - to httpcore, also a server that names no limit
            allowed = min(core._h2_state.remote_settings.max_concurrent_streams, _UNKNOWN)  # noqa: SLF001
            for _ in range(core._max_streams, allowed):  # noqa: SLF001
                await core._max_streams_semaphore.release()  # noqa: SLF001
            core._max_streams = max(allowed, 1)  # noqa: SLF001
        self._settled.set()

    def _made(self, origin: httpcore.Origin) -> Core:
        return httpcore.AsyncHTTP2Connection(origin, self._wire)


class _Body(httpx.AsyncByteStream):
    def __init__(self, line: HttpcoreLine, exchange: _Exchange, stream: httpcore.AsyncConnectionInterface) -> None:
        self._line, self._exchange, self._stream = line, exchange, stream
        self._chunks = cast("AsyncGenerator[bytes, None]", aiter(cast("AsyncIterator[bytes]", stream)))
        self._ended = self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._ended:
            try:
                chunk = await self._exchange.within(anext(self._chunks))
            except StopAsyncIteration:
                self._ended = True
                return
            if chunk:
                yield chunk

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._ended:
            self._line.withdraw(self._exchange.stream_id)
        try:
            await self._chunks.aclose()
            await self._stream.aclose()
        finally:
            self._line.end()


def _asked(request: httpx.Request, exchange: _Exchange) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=exchange.pieces(request.content),
        extensions={"trace": exchange.traced},
    )


def _translated(error: Exception, *, lost: bool) -> httpx.TransportError:
    """Return one of httpcore's errors as httpx's; `lost` says that the connection has ended."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, StreamReset):
        said = f"the server reset the stream: {cause.error_code!r}"
        refused = cause.error_code == ErrorCodes.REFUSED_STREAM
        return Unprocessed(said) if refused else httpx.RemoteProtocolError(said)
    if isinstance(cause, ConnectionTerminated):
        debug = (cause.additional_data or b"")[:200].decode(errors="replace")
        return httpx.RemoteProtocolError(f"the server said GOAWAY: {cause.error_code!r} {debug}".rstrip())
    kind = next(ours for theirs, ours in _ERRORS if isinstance(error, theirs))
    if lost and kind is httpx.RemoteProtocolError:
        kind = httpx.ReadError
    return kind(str(error) or type(error).__name__)
