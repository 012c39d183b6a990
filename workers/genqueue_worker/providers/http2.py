"""One HTTP/2 connection of a client: the protocol is `h2`'s, the asyncio around it ours."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import cast

import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import FlowControlError, FrameTooLargeError, ProtocolError, StreamClosedError, TooManyStreamsError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.data_frames import Credit, DataFrames
from genqueue_worker.providers.pulse import Pulse
from genqueue_worker.providers.streams import STREAM_WINDOW, Fields, Http2Stream, Unprocessed

# At DEBUG hpack writes whole header blocks into the log, keys among them.
logging.getLogger("hpack").setLevel(logging.INFO)

#: Bytes of all answers on a connection that may wait to be read.
CONNECTION_WINDOW = 16 * 1024 * 1024

#: Largest frame that is sent, in bytes, whatever the server takes: larger ones would make others wait.
_MAX_PIECE = 16384

#: Seconds that a closing connection has for its farewell.
_FAREWELL = 1.0


class _Frames(FrameBuffer):
    """The frames `h2` is given, without GOAWAY: at one it would refuse the frames of the streams that go on."""

    def __init__(self) -> None:
        super().__init__()
        self.goodbyes: list[GoAwayFrame] = []

    def __next__(self) -> Frame:
        while isinstance(frame := super().__next__(), GoAwayFrame):
            self.goodbyes.append(frame)
        return frame


def _new_protocol(frames: _Frames) -> H2Connection:
    """Return a client's side of a connection.

    Header fields are not checked by `h2`: it would end every stream of the connection over one bad field of one
    answer, and write the value of a bad field of ours, a key perhaps, into its error. `request_fields` and
    `Http2Connection` look at what matters.
    """
    config = H2Configuration(
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
    )
    protocol = H2Connection(config)
    protocol.incoming_buffer = frames
    settings = {
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE,
    }
    protocol.local_settings = Settings(client=True, initial_values=settings)
    del protocol.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]  # a server's to say
    protocol.initiate_connection()
    protocol.increment_flow_control_window(CONNECTION_WINDOW - protocol.inbound_flow_control_window)
    return protocol


class Http2Connection(asyncio.Protocol):
    """Carry requests to one server; belongs to one event loop.

    `on_leaving` is called once, as soon as no more requests may be sent: after GOAWAY, a loss, or `close`.
    Streams that the server goes on with are read to their ends, then the connection closes itself.
    """

    def __init__(self, options: ConnectionOptions, on_leaving: Callable[[], None]) -> None:
        #: Whether the server said GOAWAY.
        self.goodbye = False
        self.read_timeout = options.read_timeout
        self.closed = asyncio.Event()
        self._options = options
        self._on_leaving = on_leaving
        self._loop = asyncio.get_running_loop()
        self._frames = _Frames()
        self._h2 = _new_protocol(self._frames)
        self._streams: dict[int, Http2Stream] = {}
        #: Streams whose answers `h2` sees only begin and end.
        self._answers: dict[int, Http2Stream] = {}
        self._data_frames = DataFrames(self._answers)
        self._unread = 0
        self._credit = Credit(CONNECTION_WINDOW // 16)
        self._updates = bytearray()
        self._greeted = False
        self._writable = True
        self._flushing = False
        self._leaving = ""
        self._moved = asyncio.Event()
        self._handlers: dict[type[Event], Callable[..., None]] = {
            ResponseReceived: self._on_response,
            DataReceived: self._on_data,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            RemoteSettingsChanged: lambda _: self.stir(),
            WindowUpdated: lambda _: self.stir(),
        }

    # -- for who sends requests

    @property
    def max_streams(self) -> int:
        """Streams the server allows at once."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def leaving(self) -> bool:
        """Whether no more requests may be sent."""
        return bool(self._leaving)

    @property
    def doubtful(self) -> bool:
        """Whether a ping has been on its way for long, with nothing heard since."""
        return self._pulse.doubtful

    def open(self, fields: Fields, *, ends: bool) -> Http2Stream:
        """Send a request's head, all there is of it when it `ends`.

        Raises:
            Unprocessed: the connection takes no more requests, or no more at once.
        """
        if self._leaving:
            raise Unprocessed(f"the connection takes no more requests: {self._leaving}")
        stream_id = self._h2.get_next_available_stream_id()
        self._pulse.ask()
        try:
            self._h2.send_headers(stream_id, fields, end_stream=ends)
        except TooManyStreamsError as error:
            raise Unprocessed(f"the server allows {self.max_streams} streams at once") from error
        self._streams[stream_id] = stream = Http2Stream(self, stream_id, sent=ends)
        if stream_id + 2 > H2Connection.HIGHEST_ALLOWED_STREAM_ID:
            self._leave("its stream numbers are used up")
        self._flush_soon()
        return stream

    async def aclose(self) -> None:
        """Say goodbye and close; streams end with an error."""
        self._lose(httpx.ReadError("the connection was closed by us"))
        self._part()
        try:
            async with asyncio.timeout(_FAREWELL):
                await self.closed.wait()
        except TimeoutError:
            self._transport.abort()
            await self.closed.wait()

    # -- for streams

    def room(self, stream_id: int) -> int:
        """Return how many bytes a stream may send now in one piece."""
        if not self._writable:
            return 0
        return min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size, _MAX_PIECE)

    def send(self, stream_id: int, piece: memoryview, *, ends: bool) -> None:
        """Send a piece of a request's body, for which there is room."""
        self._h2.send_data(stream_id, piece, end_stream=ends)
        if ends:
            self._flush_soon()
        else:
            self._flush()  # so that a full socket is seen before the next piece

    async def moved(self) -> None:
        """Wait until there may be room to send, or a stream has changed."""
        await self._moved.wait()

    def stir(self) -> None:
        """Wake who waits in `moved`."""
        self._moved.set()
        self._moved = asyncio.Event()

    def credit(self, stream_id: int, size: int) -> None:
        """Let the server send that many bytes more, once it is worth a frame."""
        if not self._transport.is_closing():
            self._h2.acknowledge_received_data(size, stream_id)
            self._flush_soon()

    def spend(self, size: int, of_answer: int) -> None:
        """Note bytes that came and that `h2` has not seen; so many of the answer wait to be read.

        Raises:
            FlowControlError: the server sends more than it may.
        """
        self._unread += size
        if self._unread > CONNECTION_WINDOW or of_answer > STREAM_WINDOW:
            self._h2.close_connection(ErrorCodes.FLOW_CONTROL_ERROR)
            raise FlowControlError("more than its window")

    def repay(self, stream_id: int, size: int, credit: Credit) -> None:
        """Note that such bytes were read; let the server send as many more, once it is worth a frame."""
        self._unread -= size
        self._updates += self._credit.update(0, size)
        if stream_id in self._streams:
            self._updates += credit.update(stream_id, size)
        if self._updates:
            self._flush_soon()

    def forget(self, stream_id: int, code: ErrorCodes | None) -> None:
        """Take a stream off the connection; with a code, reset it at the server."""
        if self._streams.pop(stream_id, None) is None:
            return
        self._answers.pop(stream_id, None)
        if code is not None:
            with contextlib.suppress(StreamClosedError):  # the server's own reset came in the same bytes
                self._h2.reset_stream(stream_id, code)
            self._flush_soon()
        self._part_when_drained()

    # -- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface and our settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._pulse = Pulse(self._options.ping_interval, self._options.ping_timeout, self._ping, self._silent)
        self._flush_soon()

    def data_received(self, data: bytes) -> None:
        """Take in what came; a server that breaks the protocol is left."""
        self._pulse.heard()
        if self._transport.is_closing():
            return
        try:
            self._receive(data)
        except ProtocolError as error:
            what = f"{error.error_code.name}, {type(error).__name__}: {error}"
            self._lose(httpx.RemoteProtocolError(f"the server does not speak HTTP/2, or broke it ({what})"))
            if isinstance(error, FrameTooLargeError):  # which `h2` has not seen
                self._h2.close_connection(error.error_code)
            self._flush()  # h2's GOAWAY
            self._transport.close()
            return
        while self._frames.goodbyes:
            self._on_goaway(self._frames.goodbyes.pop(0))
        self._flush()

    def pause_writing(self) -> None:
        """Send no more: the socket is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """Send again."""
        self._writable = True
        self.stir()

    def connection_lost(self, error: Exception | None) -> None:
        """End all streams."""
        reason = str(error) if error else "the server closed the connection"
        if self._leaving:
            reason = f"{reason}; before, {self._leaving}"
        self.closed.set()
        self._pulse.stop()
        self._lose(httpx.ReadError(reason))

    # -- what came

    def _receive(self, data: bytes) -> None:
        if not self._greeted and data.startswith(b"HTTP/"):
            raise ProtocolError("an answer in HTTP/1")  # to h2, the begin of a frame of four million bytes
        self._greeted = True
        for frames in self._data_frames.feed(data):
            if self._transport.is_closing():
                return
            for event in self._h2.receive_data(frames):
                if handler := self._handlers.get(type(event)):
                    handler(event)

    def _on_response(self, event: ResponseReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is None:
            return
        (name, status), *fields = event.headers or [(b"", b"")]
        if name == b":status" and status.isdigit():
            stream.begin(int(status), fields)
            if stream.plain:
                self._answers[stream.id] = stream
        else:
            self.forget(stream.id, ErrorCodes.PROTOCOL_ERROR)
            stream.fail(httpx.RemoteProtocolError("an answer without a status"))

    def _on_data(self, event: DataReceived) -> None:
        if stream := self._streams.get(event.stream_id):
            stream.feed(event.data, event.flow_controlled_length)
        else:
            self.credit(event.stream_id, event.flow_controlled_length)  # GOAWAY had given it back

    def _on_end(self, event: StreamEnded) -> None:
        if stream := self._streams.get(event.stream_id):
            stream.end()

    def _on_reset(self, event: StreamReset) -> None:
        if (stream := self._streams.get(event.stream_id)) is None:
            return
        self.forget(stream.id, None)
        who = "the server" if event.remote_reset else "h2"
        said = f"{who} reset the stream: {_name_of(event.error_code)}"
        refused = event.remote_reset and event.error_code == ErrorCodes.REFUSED_STREAM
        stream.fail(Unprocessed(said) if refused else httpx.RemoteProtocolError(said))

    def _on_goaway(self, frame: GoAwayFrame) -> None:
        self.goodbye = True
        debug = frame.additional_data[:200].decode(errors="replace")
        said = f"the server said GOAWAY: {_name_of(frame.error_code)} {debug}".rstrip()
        # Sent again at once, requests would be what that server complains of.
        kind = httpx.RemoteProtocolError if frame.error_code == ErrorCodes.ENHANCE_YOUR_CALM else Unprocessed
        for number in [number for number in self._streams if number > frame.last_stream_id]:
            self._answers.pop(number, None)
            self._streams.pop(number).fail(kind(said))
        self._leave(said)
        self._part_when_drained()

    # -- what goes

    def _flush_soon(self) -> None:
        """Write by the end of this turn of the loop, so that what comes together shares a TLS record."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if self._updates:
            data, self._updates = bytes(self._updates) + data, bytearray()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _ping(self) -> None:
        if not self._transport.is_closing():
            self._h2.ping(bytes(8))
            self._flush_soon()

    # -- ends

    def _leave(self, why: str) -> None:
        if not self._leaving:
            self._leaving = why
            self._on_leaving()

    def _part(self) -> None:
        """Say goodbye and close."""
        if not self._transport.is_closing():
            self._h2.close_connection()
            self._flush()
            self._transport.close()

    def _part_when_drained(self) -> None:
        if self._leaving and not self._streams:
            self._part()

    def _lose(self, error: httpx.TransportError) -> None:
        """Take no more requests, and end all streams."""
        self._leave(str(error))
        streams, self._streams = self._streams, {}
        self._answers.clear()
        for stream in streams.values():
            stream.fail(error)

    def _silent(self) -> None:
        self._lose(httpx.ReadError(f"no answer to a ping within {self._options.ping_timeout:g} s"))
        self._transport.abort()


def _name_of(code: int | None) -> str:
    """Return an error code's name, or the number of one that nobody has named."""
    try:
        return ErrorCodes(code or 0).name
    except ValueError:
        return f"code {code}"
