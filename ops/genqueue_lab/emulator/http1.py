"""HTTP/1.1 connections by `h11`: one request at a time, kept alive; a client that leaves cancels its answer."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from typing import TYPE_CHECKING, cast

import h11

from genqueue_lab.emulator.exchange import Request
from genqueue_lab.emulator.sockets import drop

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Ending, Headers, Service
    from genqueue_lab.emulator.stats import ConnectionRecord, RequestRecord, Stats

log = logging.getLogger(__name__)

#: Bytes of a request line and its header fields together; more is answered with 431.
MAX_HEAD = 64 * 1024


class Http1Exchange:
    """One request and its answer on an HTTP/1.1 connection."""

    def __init__(self, connection: Http1Connection, request: Request, record: RequestRecord) -> None:
        self.request = request
        self.record = record
        self._connection = connection

    def start(self, status: int, headers: Headers) -> None:
        """Send the status line and the header fields."""
        reason = http.HTTPStatus(status).phrase.encode()
        self._connection.write(h11.Response(status_code=status, headers=headers, reason=reason))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client's socket takes no more."""
        await self._connection.writable.wait()
        self._connection.write(h11.Data(data=data))

    async def end(self) -> None:
        """Send the end of the body."""
        self._connection.write(h11.EndOfMessage())

    @property
    def stream_id(self) -> int | None:
        """HTTP/1.1 has no streams."""
        return None

    def reset(self, code: str) -> None:  # noqa: ARG002 - HTTP/1.1 has no codes
        """Reset the connection: HTTP/1.1 has no other way to break off an answer."""
        self._connection.drop("rst")

    def disconnect(self, ending: Ending) -> None:
        """Drop the connection."""
        self._connection.drop(ending)

    def go_away(self, code: str, last_stream: int | None) -> None:  # noqa: ARG002 - HTTP/1.1 has neither
        """Close the connection after this answer."""
        self._connection.leaving = True

    def hang_up(self) -> None:
        """Close the connection; the answer stays as it is."""
        self._connection.cut_off()


class Http1Connection(asyncio.Protocol):
    """One client's HTTP/1.1 connection; owns the task that answers its current request."""

    def __init__(self, service: Service, stats: Stats) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._service = service
        self._stats = stats
        self._exchange: Http1Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self.leaving = False
        self._cut = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._record: ConnectionRecord = self._stats.connected("http/1.1")

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        self._http.receive_data(data)
        self._advance()

    def pause_writing(self) -> None:
        """Stop sending: the client's socket takes no more."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Send again."""
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Cancel the answer that is still under way."""
        if self._exchange is not None:
            self._stats.ended(self._exchange.record, cancelled=not self._cut)
            self._exchange = None
        if self._task is not None:
            self._task.cancel()
        self._stats.disconnected(self._record)
        self.lost.set()

    def _advance(self) -> None:
        """Handle everything that has arrived, up to the end of one request."""
        try:
            while self._handle(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _handle(self, event: object) -> bool:
        """Handle one event; False when there is nothing more to read for now."""
        match event:
            case h11.Request():
                self._open(event)
            case h11.Data() if self._exchange:
                self._exchange.request.feed(event.data)
            case h11.EndOfMessage() if self._exchange:
                self._exchange.request.complete()
                self._task = asyncio.create_task(self._answer(self._exchange))
            case h11.ConnectionClosed():
                self._transport.close()
                return False
            case _:  # NEED_DATA, or PAUSED until the current answer is out
                return False
        return True

    def _open(self, event: h11.Request) -> None:
        method, target = event.method.decode("ascii"), event.target.decode("latin-1")
        request = Request.from_headers(method, target, event.headers)
        record = self._stats.began(self._record, method, request.path)
        self._exchange = Http1Exchange(self, request, record)
        if self._http.they_are_waiting_for_100_continue:
            self.write(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))

    async def _answer(self, exchange: Http1Exchange) -> None:
        try:
            await self._service.answer(exchange)
        except Exception:
            log.exception("emulator.answer.failed request=%d: report this as a defect", exchange.record.id)
            self._transport.abort()
            return
        self._exchange = self._task = None
        self._stats.ended(exchange.record, cancelled=False)
        if self.leaving or self._http.our_state is not h11.DONE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._advance()

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer bytes that are no HTTP, if an answer can still be sent, and hang up."""
        log.info("emulator.connection.refused connection=%d reason=%s", self._record.id, error)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            fields = [("content-length", "0"), ("connection", "close")]
            reason = http.HTTPStatus(status).phrase.encode()
            self.write(h11.Response(status_code=status, headers=fields, reason=reason))
        self._transport.close()

    def write(self, event: h11.Event) -> None:
        """Send an event of the answer."""
        if (data := self._http.send(event)) and not self._transport.is_closing():
            self._transport.write(data)

    def drop(self, ending: Ending) -> None:
        """Drop the connection without a word."""
        self._cut = True
        drop(self._transport, ending)

    def cut_off(self) -> None:
        """Close the connection from this side."""
        self._cut = True
        self._transport.close()

    def close(self) -> None:
        """Close; what is under way is cut off."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once, without TLS's farewell."""
        with contextlib.suppress(AttributeError):  # early releases of 3.11 raise it once TLS has ended
            self._transport.abort()
