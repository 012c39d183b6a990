"""One HTTP/2 connection, against the server side of `h2`, with no network between."""

import asyncio
import logging
import time

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, PingAckReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hpack import NeverIndexedHeaderTuple
from hyperframe import frame as raw

from genqueue_worker.providers import pulse
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.http2 import Http2Connection
from genqueue_worker.providers.streams import STREAM_WINDOW, Unprocessed

ASK = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"x"),
    (b":path", b"/"),
]
KEY = NeverIndexedHeaderTuple(b"x-goog-api-key", b"secret")
OK = [(":status", "200"), ("content-type", "text/event-stream")]


class Wire:
    """A transport that keeps what is written."""

    def __init__(self):
        self.written, self.closing = b"", False
        self.has_written = asyncio.Event()

    def write(self, data):
        """Keep bytes."""
        self.written += data
        self.has_written.set()

    def is_closing(self):
        """Say whether it is."""
        return self.closing

    def close(self):
        """Close once the loop has had its turn, as transports do."""
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.client.connection_lost, None)

    abort = close

    def get_extra_info(self, name):
        """Say that there is no TLS."""


class Pair:
    """A client's connection and the server's side of it."""

    def __init__(self, **options):
        self.left = 0
        self.client = Http2Connection(ConnectionOptions(**options), self.leave)
        self.wire = Wire()
        self.wire.client = self.client
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.server.initiate_connection()
        self.client.connection_made(self.wire)

    def leave(self):
        """Count the goodbyes."""
        self.left += 1

    async def turn(self):
        """Carry everything over, both ways; return what happened at the server."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        written, self.wire.written = self.wire.written, b""
        events = self.server.receive_data(written) if written else []
        if data := self.server.data_to_send():
            self.client.data_received(data)
        return events

    def ask(self):
        """Send a request without a body."""
        return self.client.open(ASK, ends=True)

    def say(self, *pieces):
        """Have the server send frames of the test's own making."""
        self.client.data_received(b"".join(piece.serialize() for piece in pieces))


@pytest.fixture
async def pair():
    """Return a connection that is closed afterwards."""
    made = Pair()
    await made.turn()
    yield made
    await made.client.aclose()


def of(kind, events):
    """Return the events of a kind."""
    return [event for event in events if isinstance(event, kind)]


async def test_a_request_and_its_answer(pair):
    """Fields, body and answer arrive as they were sent; the secret field is in no table."""
    stream = pair.client.open([*ASK, KEY], ends=False)
    await stream.send(b"question")
    events = await pair.turn()
    sent = of(RequestReceived, events)[0].headers
    assert [field for field in sent if not field.indexable] == [KEY]
    assert of(DataReceived, events)[0].data == b"question"
    pair.server.send_headers(1, [(":status", "103"), ("link", "a")])
    pair.server.send_headers(1, OK)
    pair.server.send_data(1, b"an", pad_length=9)
    await pair.turn()
    assert await stream.head() == (200, [(b"content-type", b"text/event-stream")])
    assert await stream.read() == b"an"
    pair.server.send_data(1, b"swer")
    pair.server.send_headers(1, [("grpc-status", "0")], end_stream=True)
    await pair.turn()
    assert [await stream.read(), await stream.read()] == [b"swer", b""]
    stream.close()
    assert not of(StreamReset, await pair.turn())


async def test_leaving_resets_the_stream(pair):
    """Before the head, between two chunks, and while the request is being sent: the server hears of it at once."""
    thinking, talking = pair.ask(), pair.ask()
    sending = pair.client.open(ASK, ends=False)
    slow = asyncio.create_task(sending.send(bytes(70_000)))
    await pair.turn()
    pair.server.send_headers(talking.id, OK)
    await pair.turn()
    slow.cancel()
    for stream in (thinking, talking, sending):
        stream.close()
        stream.close()
    resets = of(StreamReset, await pair.turn())
    assert [(reset.stream_id, reset.error_code) for reset in resets] == [(n, ErrorCodes.CANCEL) for n in (1, 3, 5)]


async def test_what_comes_for_a_stream_that_was_left_does_no_harm(pair):
    """Frames that crossed the reset are dropped, their header fields still decoded and their bytes credited."""
    left = pair.ask()
    await pair.turn()
    pair.server.send_headers(1, [*OK, ("x-new", "in the table")])
    pair.server.send_data(1, b"late", end_stream=True)
    left.close()
    await pair.turn()
    stream = pair.ask()
    await pair.turn()
    pair.server.send_headers(3, [*OK, ("x-new", "in the table")], end_stream=True)
    await pair.turn()
    assert (await stream.head())[1][-1] == (b"x-new", b"in the table")


async def test_a_large_answer_flows_as_it_is_read(pair):
    """The windows are opened again by reading, and by nothing else."""
    stream = pair.ask()
    await pair.turn()
    pair.server.send_headers(1, OK)
    left, got = 4 * STREAM_WINDOW, 0
    while left:
        while left and (room := min(pair.server.local_flow_control_window(1), 16384, left)):
            pair.server.send_data(1, bytes(room))
            left -= room
        await pair.turn()
        held = 4 * STREAM_WINDOW - left - got
        assert held <= STREAM_WINDOW
        got += len(await stream.read())
        await pair.turn()
    assert got == 4 * STREAM_WINDOW


async def test_a_large_request_flows_as_it_is_taken(pair):
    """The body waits for the server's windows; another initial window counts for streams that are open."""
    body = bytes(range(256)) * 2000
    stream = pair.client.open(ASK, ends=False)
    sending = asyncio.create_task(stream.send(body))
    events = await pair.turn()
    pair.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
    taken = b""
    async with asyncio.timeout(5):
        while not of(StreamEnded, events):
            for event in of(DataReceived, events):
                taken += event.data
                pair.server.acknowledge_received_data(event.flow_controlled_length, 1)
            events = await pair.turn()
    await sending
    assert taken + b"".join(event.data for event in of(DataReceived, events)) == body


async def test_a_window_made_smaller_holds_back_what_was_allowed(pair):
    """A smaller initial window takes from open streams what they had not used, even below nothing."""
    stream = pair.client.open(ASK, ends=False)
    await stream.send(bytes(50_000))
    await pair.turn()
    pair.say(raw.SettingsFrame(0, {raw.SettingsFrame.INITIAL_WINDOW_SIZE: 1000}))
    assert pair.client.room(stream.id) == 1000 - 50_000


async def test_an_early_answer_ends_the_request(pair):
    """A server that answers before it has read the request is not sent the rest."""
    stream = pair.client.open(ASK, ends=False)
    sending = asyncio.create_task(stream.send(bytes(1_000_000)))
    await pair.turn()
    pair.server.send_headers(1, [(":status", "413")], end_stream=True)
    await pair.turn()
    await sending
    assert (await stream.head())[0] == 413
    assert [reset.error_code for reset in of(StreamReset, await pair.turn())] == [ErrorCodes.CANCEL]


@pytest.mark.parametrize("status", ["413", "none"])
async def test_an_answer_and_a_reset_at_once_end_their_stream_alone(pair, status):
    """A server that wants no more of a request may end the answer and reset the stream in the same bytes."""
    stream, other = pair.client.open(ASK, ends=False), pair.ask()
    sending = asyncio.create_task(stream.send(bytes(1_000_000)))
    await pair.turn()
    pair.server.send_headers(other.id, OK)
    await pair.turn()
    head = pair.server.encoder.encode([(":status", status)])
    pair.say(raw.HeadersFrame(stream.id, head, flags=["END_HEADERS", "END_STREAM"]), raw.RstStreamFrame(stream.id))
    await sending
    if status == "413":
        assert (await stream.head())[0] == 413
    else:
        with pytest.raises(httpx.RemoteProtocolError, match="without a status"):
            await stream.head()
    assert (await other.head())[0] == 200
    assert not pair.client.leaving


async def test_a_server_that_takes_nothing_is_a_write_timeout():
    """A request that does not get through does not wait for ever."""
    pair = Pair(read_timeout=0.05)
    await pair.turn()
    stream = pair.client.open(ASK, ends=False)
    with pytest.raises(httpx.WriteTimeout, match=r"took nothing of the request for 0\.05 s"):
        await stream.send(bytes(100_000))
    await pair.client.aclose()


async def test_silence_is_a_read_timeout_and_resets():
    """The bound is on each wait; the stream that passes it is reset, and the connection goes on."""
    pair = Pair(read_timeout=0.05)
    await pair.turn()
    stream = pair.ask()
    with pytest.raises(httpx.ReadTimeout, match=r"nothing came for 0\.05 s"):
        await stream.head()
    assert len(of(StreamReset, await pair.turn())) == 1
    assert not pair.client.leaving
    await pair.client.aclose()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(ErrorCodes.REFUSED_STREAM, Unprocessed), (ErrorCodes.INTERNAL_ERROR, httpx.RemoteProtocolError)],
)
async def test_a_reset_by_the_server_ends_that_stream_alone(pair, code, kind):
    """What was refused may be sent again; anything else may have been worked on."""
    stream, other = pair.ask(), pair.ask()
    await pair.turn()
    pair.server.reset_stream(1, code)
    pair.server.send_headers(3, OK)
    await pair.turn()
    with pytest.raises(kind, match=code.name) as raised:
        await stream.head()
    assert type(raised.value) is kind
    assert (await other.head())[0] == 200


async def test_goaway_lets_streams_finish_and_gives_back_the_others(pair):
    """Streams up to the last number go on, those above were not looked at; then the connection closes itself."""
    first, second = pair.ask(), pair.ask()
    await pair.turn()
    pair.say(raw.GoAwayFrame(0, 2**31 - 1))
    assert (pair.client.leaving, pair.left) == (True, 1)
    with pytest.raises(Unprocessed, match="takes no more requests: the server said GOAWAY: NO_ERROR"):
        pair.ask()
    pair.say(raw.GoAwayFrame(0, 1, additional_data=b"moving"))
    with pytest.raises(Unprocessed, match="GOAWAY: NO_ERROR moving"):
        await second.head()
    pair.server.send_headers(1, OK)
    pair.server.send_data(1, b"whole", end_stream=True)
    await pair.turn()
    assert [await first.read(), await first.read()] == [b"whole", b""]
    assert (pair.wire.closing, pair.left) == (True, 1)


@pytest.mark.parametrize("step", [1, 5, 64])
async def test_bytes_may_be_cut_anywhere(pair, step):
    """Whatever the wire cuts, GOAWAY and the streams that go on after it come out as they were sent."""
    stream, other = pair.ask(), pair.ask()
    await pair.turn()
    pair.server.send_headers(1, OK)
    begin = pair.server.data_to_send() + raw.GoAwayFrame(0, 1, ErrorCodes.NO_ERROR, b"moving").serialize()
    pair.server.send_data(1, b"whole", end_stream=True)
    sent = begin + pair.server.data_to_send()
    for at in range(0, len(sent), step):
        pair.client.data_received(sent[at : at + step])
    assert [await stream.read(), await stream.read()] == [b"whole", b""]
    with pytest.raises(Unprocessed, match="moving"):
        await other.head()


async def test_goaway_for_too_much_traffic_gives_nothing_back(pair):
    """Who is told to calm down does not send the same again at once."""
    stream = pair.ask()
    pair.say(raw.GoAwayFrame(0, 0, ErrorCodes.ENHANCE_YOUR_CALM))
    with pytest.raises(httpx.RemoteProtocolError, match="ENHANCE_YOUR_CALM") as raised:
        await stream.head()
    assert not isinstance(raised.value, Unprocessed)


async def test_a_lost_connection_ends_its_streams_with_what_was_said_before(pair):
    """What came is still read; then an error says how the connection ended."""
    stream = pair.ask()
    await pair.turn()
    pair.server.send_headers(1, OK)
    pair.server.send_data(1, b"part")
    await pair.turn()
    pair.say(raw.GoAwayFrame(0, 1, ErrorCodes.INTERNAL_ERROR))
    pair.wire.closing = True
    pair.client.connection_lost(None)
    assert await stream.read() == b"part"
    with pytest.raises(httpx.ReadError, match=r"the server closed the connection; before, .* INTERNAL_ERROR"):
        await stream.read()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (raw.PushPromiseFrame(1, 2, b"", flags=["END_HEADERS"]), "push"),
        (raw.DataFrame(9, b"x"), "NoSuchStreamError: 9"),
        (raw.DataFrame(1, b"x"), "data before headers"),
        (raw.WindowUpdateFrame(0, 2**31 - 1), "FLOW_CONTROL_ERROR"),
        (raw.SettingsFrame(0, {4: 2**31}), "invalid value 2147483648"),
        (raw.HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]), "header block"),
        (raw.ContinuationFrame(1, b""), "RECV_CONTINUATION"),
        (raw.DataFrame(1, bytes(16385)), "FRAME_SIZE_ERROR"),
    ],
)
async def test_a_server_that_breaks_the_protocol_is_left(pair, frame, said):
    """Streams end with an error, and the server is told why."""
    stream = pair.ask()
    await pair.turn()
    pair.say(frame)
    with pytest.raises(httpx.RemoteProtocolError, match=said):
        await stream.head()
    assert pair.wire.closing


async def test_a_header_block_cannot_be_interrupted_nor_grow_for_ever():
    """Between HEADERS and its end nothing else may come, the end has to come, and what it holds is bounded."""
    table = raw.HeadersFrame(1, b"\x40\1a\x7f\xa1\x07" + bytes(1056) + b"\xbe" * 70, flags=["END_HEADERS"])
    for frames, said in (
        ([raw.HeadersFrame(1, b""), raw.DataFrame(1, b"x")], "during header block"),
        ([raw.HeadersFrame(1, b""), *[raw.ContinuationFrame(1, b"")] * 64], "Too many continuation frames"),
        ([table], "ENHANCE_YOUR_CALM"),
    ):
        other = Pair()
        await other.turn()
        stream = other.ask()
        other.say(*frames)
        with pytest.raises(httpx.RemoteProtocolError, match=said):
            await stream.head()
        await other.client.aclose()


async def test_an_answer_without_a_status_ends_its_stream_alone(pair):
    """A head that says nothing is one stream's misfortune."""
    stream, other = pair.ask(), pair.ask()
    await pair.turn()
    pair.server.config.validate_outbound_headers = False
    pair.server.send_headers(1, [("content-type", "text/plain")])
    pair.server.send_headers(3, OK)
    await pair.turn()
    with pytest.raises(httpx.RemoteProtocolError, match="without a status"):
        await stream.head()
    assert (await other.head())[0] == 200
    assert [reset.stream_id for reset in of(StreamReset, await pair.turn())] == [1]


async def test_a_server_of_http1_is_told_as_such():
    """Without TLS nobody has agreed on HTTP/2; what such a server says is no frame that could be waited for."""
    pair = Pair()
    stream = pair.ask()
    pair.client.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(httpx.RemoteProtocolError, match=r"does not speak HTTP/2, .* an answer in HTTP/1"):
        await stream.head()
    assert pair.wire.closing


async def test_a_stream_more_than_the_server_allows_is_not_sent(pair):
    """The request may be sent on another connection; those under way go on."""
    stream = pair.ask()
    pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    await pair.turn()
    assert pair.client.max_streams == 1
    with pytest.raises(Unprocessed, match="the server allows 1 streams at once"):
        pair.ask()
    pair.server.send_headers(1, OK, end_stream=True)
    await pair.turn()
    assert (await stream.head())[0] == 200
    pair.ask()


async def test_more_than_was_allowed_is_a_breach(pair):
    """A server that ignores flow control is left before it fills the memory."""
    stream = pair.ask()
    await pair.turn()
    pair.server.send_headers(1, OK)
    await pair.turn()
    pair.say(*[raw.DataFrame(1, bytes(16384))] * (STREAM_WINDOW // 16384 + 1))
    while await asyncio.wait_for(_read_or_error(stream), 1):
        pass
    assert pair.wire.closing


async def _read_or_error(stream):
    try:
        return await stream.read()
    except httpx.RemoteProtocolError as error:
        assert "FLOW_CONTROL_ERROR" in str(error)  # noqa: PT017 - what was read before it does not matter
        return b""


async def test_pings_are_answered_and_sent_when_it_is_quiet():
    """The server's pings are acknowledged; ours go out after a silence, and any byte counts as an answer."""
    pair = Pair(ping_interval=0.02, ping_timeout=0.02)
    await pair.turn()
    pair.server.ping(b"12345678")
    await pair.turn()
    assert len(of(PingAckReceived, await pair.turn())) == 1
    for _ in range(3):
        pair.wire.has_written.clear()
        await asyncio.wait_for(pair.wire.has_written.wait(), 1)
        await pair.turn()
    assert not pair.client.leaving
    async with asyncio.timeout(1):
        await pair.client.closed.wait()
    with pytest.raises(Unprocessed, match=r"no answer to a ping within 0\.02 s"):
        pair.ask()


async def test_a_request_takes_a_ping_along_after_a_silence(monkeypatch):
    """A connection that may be dead is asked with the first request that relies on it, and is then in doubt."""
    monkeypatch.setattr(pulse, "_QUIET", 0.01)
    pair = Pair()
    await pair.turn()
    await asyncio.sleep(0.02)
    pair.ask()
    assert not pair.client.doubtful
    await asyncio.sleep(0.02)
    assert pair.client.doubtful
    await pair.turn()
    assert not pair.client.doubtful
    await pair.client.aclose()


async def test_a_loop_that_stood_still_is_no_proof_of_a_dead_server(monkeypatch):
    """After a pause of this process the answer may be waiting to be read."""
    monkeypatch.setattr(pulse, "_STANDSTILL", 0.01)
    pair = Pair(ping_interval=0.01, ping_timeout=0.01)
    await pair.turn()
    pinged = asyncio.Event()
    monkeypatch.setattr(pair.wire, "write", lambda _: pinged.set())
    await pinged.wait()
    time.sleep(0.05)  # noqa: ASYNC251 - the pause itself
    for _ in range(3):
        await asyncio.sleep(0)
    assert not pair.client.leaving
    await pair.client.aclose()


async def test_fields_sent_are_in_no_log(pair, caplog):
    """Hpack's own log of header blocks, with keys in them, stays off."""
    with caplog.at_level(logging.DEBUG):
        pair.client.open([*ASK, KEY], ends=True)
    assert "secret" not in caplog.text
    assert not logging.getLogger("hpack.hpack").isEnabledFor(logging.DEBUG)


async def test_stream_numbers_that_are_used_up_end_the_connection(pair):
    """The last stream is read to its end; no other can follow it."""
    pair.client._h2.highest_outbound_stream_id = pair.client._h2.HIGHEST_ALLOWED_STREAM_ID - 2
    pair.ask()
    assert pair.client.leaving
