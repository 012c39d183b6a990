"""HTTP/2 connections: frames by `h2`, flow control and stream limits kept, resets seen at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from typing import TYPE_CHECKING, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from genqueue_lab.emulator.exchange import Request
from genqueue_lab.emulator.sockets import drop

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Ending, Headers, Service
    from genqueue_lab.emulator.stats import ConnectionRecord, RequestRecord, Stats

log = logging.getLogger(__name__)

#: Flow-control windows offered for request bodies, in bytes.
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 8 << 20

#: Head of a frame: length (24 bits, here as 16 and 8), type, flags, stream.
_DATA_HEAD = struct.Struct(">HBBBL")


class _Frames(H2Connection):
    """An `h2` connection with a quick way to send data, whose owner refuses streams too many."""

    @property
    def open_inbound_streams(self) -> int:
        """Streams the client has open, but never as many as are allowed.

        `h2` would end the whole connection over one too many; RFC 9113, 5.1.2, lets a server refuse just that stream.
        """
        limit = int(self.local_settings.max_concurrent_streams)
        return min(super().open_inbound_streams, limit - 1)

    def send_piece(self, stream_id: int, data: bytes | memoryview) -> None:
        """Send one DATA frame that is known to fit the windows, at a tenth of the cost of `send_data`."""
        size = len(data)
        self._data_to_send += _DATA_HEAD.pack(size >> 8, size & 0xFF, 0, 0, stream_id)
        self._data_to_send += data
        self.outbound_flow_control_window -= size
        self.streams[stream_id].outbound_flow_control_window -= size

    def room(self, stream_id: int) -> int:
        """Return how many bytes of an open stream fit the windows and a frame."""
        windows = min(self.outbound_flow_control_window, self.streams[stream_id].outbound_flow_control_window)
        return max(0, min(windows, self.max_outbound_frame_size))

    def send_goaway(self, code: int, last_stream: int) -> None:
        """Send GOAWAY and stay open for the streams that go on, which `close_connection` would forbid."""
        self._data_to_send += GoAwayFrame(stream_id=0, last_stream_id=last_stream, error_code=code).serialize()


class Http2Stream:
    """One stream: a request and its answer."""

    def __init__(self, connection: Http2Connection, stream_id: int, request: Request, record: RequestRecord) -> None:
        self.request = request
        self.record = record
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self.id = stream_id

    @property
    def stream_id(self) -> int | None:
        """The stream's number."""
        return self.id

    def start(self, status: int, headers: Headers) -> None:
        """Send the status and the header fields."""
        self._connection.frames.send_headers(self.id, [(":status", str(status)), *headers])
        self._connection.flush_soon()

    async def send(self, data: bytes) -> None:
        """Send a piece of the body in frames as large as flow control allows."""
        rest = memoryview(data)
        connection = self._connection
        while rest:
            # For a chunk there is nearly always room, and a coroutine costs as much as all of this.
            room = connection.has_room(self.id) or await connection.room(self.id)
            connection.frames.send_piece(self.id, rest[:room])
            connection.flush_soon()
            rest = rest[room:]

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the body in one frame if there is room for it now; returns whether it was sent."""
        connection = self._connection
        if connection.has_room(self.id) < len(data):
            return False
        connection.frames.send_piece(self.id, data)
        connection.flush_soon()
        return True

    async def end(self) -> None:
        """Send the end of the stream."""
        self._connection.frames.end_stream(self.id)
        self._connection.flush_soon()

    def reset(self, code: str) -> None:
        """Send RST_STREAM with an error code by name."""
        self._connection.frames.reset_stream(self.id, ErrorCodes[code])
        self._connection.flush_soon()

    def disconnect(self, ending: Ending) -> None:
        """Drop the connection with all its streams."""
        self._connection.drop(ending)

    def go_away(self, code: str, last_stream: int | None) -> None:
        """Send GOAWAY; the connection is closed when the streams up to the last one have ended."""
        self._connection.leave(code, last_stream)

    def hang_up(self) -> None:
        """Close the connection; its streams are cut off."""
        self._connection.cut_off()


class Http2Connection(asyncio.Protocol):
    """One client's HTTP/2 connection; owns the tasks that answer its streams."""

    def __init__(self, service: Service, stats: Stats, max_streams: int) -> None:
        self.frames = _Frames(H2Configuration(client_side=False, header_encoding=None))
        self.frames.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            },
        )
        self._service = service
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._max_streams = max_streams
        self._streams: dict[int, Http2Stream] = {}
        self._flushing = False
        self._writable = True
        self._cut = False
        self._last_stream: int | None = None  # after GOAWAY: streams above it are not served
        self._moved = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the server's settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._record: ConnectionRecord = self._stats.connected("h2")
        self.frames.initiate_connection()
        self.frames.increment_flow_control_window(CONNECTION_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; a client that breaks the protocol gets GOAWAY and is cut off."""
        try:
            for event in self.frames.receive_data(data):
                self._handle(event)
        except ProtocolError as error:
            log.info("emulator.connection.refused connection=%d reason=%s", self._record.id, error)
            self._hang_up()
        self._flush()

    def pause_writing(self) -> None:
        """Stop sending: the client's socket takes no more."""
        self._writable = False

    def resume_writing(self) -> None:
        """Send again."""
        self._writable = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Cancel every answer that is still under way."""
        self._drop_all()
        self._stats.disconnected(self._record)
        self.lost.set()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._open(event)
            case DataReceived():
                self._feed(event)
            case StreamEnded() if stream := self._streams.get(event.stream_id):
                stream.request.complete()
                stream.task = asyncio.create_task(self._answer(stream))
            case StreamReset() if stream := self._streams.get(event.stream_id):
                self._drop(stream)
            case WindowUpdated() | RemoteSettingsChanged():
                self._wake()
            case ConnectionTerminated():
                self._hang_up()
            case _:
                pass

    def _open(self, event: RequestReceived) -> None:
        if self._last_stream is not None and event.stream_id > self._last_stream:
            return  # the client will learn from GOAWAY that nobody looked at it
        if len(self._streams) >= self._max_streams:
            self._record.refused += 1
            self.frames.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        fields = event.headers
        pseudo = {name: value.decode("latin-1") for name, value in fields if name.startswith(b":")}
        method, target = pseudo[b":method"], pseudo.get(b":path", "*")
        request = Request.from_headers(method, target, fields)
        record = self._stats.began(self._record, method, request.path)
        self._streams[event.stream_id] = Http2Stream(self, event.stream_id, request, record)

    def _feed(self, event: DataReceived) -> None:
        if stream := self._streams.get(event.stream_id):
            stream.request.feed(event.data)
        if event.flow_controlled_length:
            self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def _answer(self, stream: Http2Stream) -> None:
        try:
            await self._service.answer(stream)
        except Exception:
            log.exception("emulator.answer.failed request=%d: report this as a defect", stream.record.id)
            self.frames.reset_stream(stream.id, ErrorCodes.INTERNAL_ERROR)
            self.flush_soon()
        self._streams.pop(stream.id, None)
        self._stats.ended(stream.record, cancelled=False)
        if self._last_stream is not None and not self._streams:
            self._hang_up()

    def _drop(self, stream: Http2Stream) -> None:
        """Forget a stream whose client has left, or whose connection was cut here."""
        self._streams.pop(stream.id, None)
        if self._cut:
            stream.record.fault = stream.record.fault or "cut"
        self._stats.ended(stream.record, cancelled=not self._cut)
        if stream.task is not None:
            stream.task.cancel()

    def _drop_all(self) -> None:
        for stream in list(self._streams.values()):
            self._drop(stream)

    def _hang_up(self) -> None:
        """Close the connection; nothing can be sent on its streams any more."""
        self._drop_all()
        self._flush()
        self._transport.close()

    def drop(self, ending: Ending) -> None:
        """Drop the connection without a word."""
        self._cut = True
        self._flush()
        drop(self._transport, ending)

    def leave(self, code: str, last_stream: int | None) -> None:
        """Send GOAWAY and close once the streams up to the last one have ended."""
        highest = max(self._streams, default=0)
        self._last_stream = highest if last_stream is None else last_stream
        self.frames.send_goaway(ErrorCodes[code], self._last_stream)
        self._cut = True
        for stream in [one for one in self._streams.values() if one.id > self._last_stream]:
            self._drop(stream)
        self._cut = False
        self._flush()

    def cut_off(self) -> None:
        """Close the connection from this side; its streams are cut off."""
        self._cut = True
        self._hang_up()

    def has_room(self, stream_id: int) -> int:
        """Return how many bytes the stream may send in one frame now."""
        if not self._writable:
            return 0
        return self.frames.room(stream_id)

    async def room(self, stream_id: int) -> int:
        """Return how many bytes the stream may send in one frame, once that is more than none."""
        while not (room := self.has_room(stream_id)):
            await self._moved.wait()
        return room

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop, so that streams due together share a TLS record."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._transport.is_closing() and (data := self.frames.data_to_send()):
            self._transport.write(data)

    def close(self) -> None:
        """Say goodbye and close; what is under way is cut off."""
        with contextlib.suppress(ProtocolError):  # the client may have closed its side already
            self.frames.close_connection()
        self._hang_up()

    def abort(self) -> None:
        """Close at once, without TLS's farewell."""
        with contextlib.suppress(AttributeError):  # early releases of 3.11 raise it once TLS has ended
            self._transport.abort()
