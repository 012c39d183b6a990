import asyncio
import json
import logging
import ssl

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from genqueue_lab.emulator import Options, Pace
from genqueue_lab.emulator.server import Emulator

STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=k"
BODY = json.dumps({"contents": {"parts": {"text": "hello"}}}).encode()
FOR_EVER = ("x-emulator-ttft", "3600")


class Client:
    """A bare HTTP/2 client that shows every event."""

    def __init__(self, emulator):
        self._emulator = emulator
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings.enable_push = 0

    async def __aenter__(self):
        self._reader, self.writer = await self.connect()
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def connect(self):
        """Open a TLS connection that offers h2."""
        context = ssl.create_default_context(cafile=self._emulator.ca_file)
        context.set_alpn_protocols(["h2"])
        return await asyncio.open_connection("127.0.0.1", self._emulator.port, ssl=context)

    async def flush(self):
        """Send what is queued."""
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def post(self, *headers, body=BODY, target=STREAM):
        """Send a request and return its stream's id."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":path", target), (":scheme", "https"), (":authority", "localhost")]
        self.h2.send_headers(stream, [*fields, *headers])
        self.h2.send_data(stream, body, end_stream=True)
        await self.flush()
        return stream

    async def events(self, until):
        """Return the events up to the first of a type, or up to the end of the connection."""
        seen = []
        while not any(isinstance(event, until) for event in seen):
            if not (data := await self._reader.read(65536)):
                return seen
            seen += self.h2.receive_data(data)
            await self.flush()
        return seen

    async def answer(self):
        """Read one whole answer and return its status and body."""
        events = await self.events(StreamEnded)
        status = next(dict(event.headers)[":status"] for event in events if isinstance(event, ResponseReceived))
        return status, b"".join(event.data for event in events if isinstance(event, DataReceived))


@pytest.fixture
async def running(tmp_path):
    """Run an emulator in the test's own loop that allows two streams."""
    options = Options(pace=Pace(ttft=0, tpot=0, tokens=5), directory=tmp_path, max_concurrent_streams=2)
    async with Emulator(options) as emulator:
        yield emulator


def tasks_of_answers():
    """Return the tasks that answer streams."""
    return [task for task in asyncio.all_tasks() if "Connection._answer" in repr(task.get_coro())]


async def test_a_stream_is_answered_on_http2(running):
    """A request over HTTP/2 gets its events, and the connection is counted as h2 with the limit announced."""
    async with Client(running) as client:
        await client.post()
        status, body = await client.answer()
        assert client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 2
    assert status == "200"
    assert body.count(b"data: ") == 5
    assert running.stats.snapshot()["protocols"] == {"h2": 1}


async def test_the_default_is_100_streams(tmp_path):
    """The number of streams is that of Google's front ends."""
    async with Emulator(Options(directory=tmp_path)) as emulator, Client(emulator) as client:
        await client.events(SettingsAcknowledged)
        assert client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 100


async def test_a_stream_too_many_is_refused_alone(running):
    """The third stream gets REFUSED_STREAM, the two before live on, and a slot freed can be used again."""
    async with Client(running) as client:
        await client.events(SettingsAcknowledged)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 9  # a client that does not keep the limit
        client.h2.remote_settings.acknowledge()
        first, _, third = [await client.post(FOR_EVER) for _ in range(3)]
        (reset,) = [event for event in await client.events(StreamReset) if isinstance(event, StreamReset)]
        assert (reset.stream_id, reset.error_code) == (third, ErrorCodes.REFUSED_STREAM)
        client.h2.reset_stream(first)
        await client.post()
        assert (await client.answer())[0] == "200"
    (connection,) = running.stats.snapshot()["connections"]
    assert (connection["peak"], connection["refused"], connection["streams"]) == (2, 1, 3)


async def test_a_reset_cancels_the_answer_at_once(running):
    """RST_STREAM from the client ends the task of that stream and is recorded; other streams go on."""
    async with Client(running) as client:
        stream = await client.post(FOR_EVER)
        await running.stats.reached({"live": 1}, {})
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        await client.post()
        assert (await client.answer())[0] == "200"
        cancelled, done = running.stats.snapshot()["requests"]
        assert (cancelled["cancelled"], cancelled["status"], cancelled["end"] is not None) == (True, None, True)
        assert (done["cancelled"], done["status"]) == (False, 200)
        assert tasks_of_answers() == []


async def test_a_client_that_goes_away_leaves_nothing_behind(running):
    """A connection cut mid-stream cancels its answers; no task and no live count stays."""
    client = Client(running)
    async with client:
        await client.post(FOR_EVER)
        await client.post(FOR_EVER)
        await running.stats.reached({"live": 2}, {})
        answering = tasks_of_answers()
        client.writer.transport.abort()
    await running.stats.reached({"cancelled": 2}, {"live": 0, "connections_open": 0})
    await asyncio.wait(answering)
    assert [task.cancelled() for task in answering] == [True, True]


async def test_flow_control_is_kept(running):
    """Not a byte more than the client's window is sent until the client opens it."""
    async with Client(running) as client:
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        stream = await client.post()
        received = b""
        while len(received) < 100:
            received += b"".join(e.data for e in await client.events(DataReceived) if isinstance(e, DataReceived))
        assert len(received) == 100
        assert running.stats.totals()["live"] == 1
        client.h2.increment_flow_control_window(10_000, stream)
        await client.flush()
        events = await client.events(StreamEnded)
        received += b"".join(event.data for event in events if isinstance(event, DataReceived))
    assert received.count(b"\r\n\r\n") == 5


async def test_a_body_over_the_limit_is_an_error_of_the_caller(running, monkeypatch):
    """A body too large is dropped as it comes in and answered with 400."""
    monkeypatch.setattr("genqueue_lab.emulator.exchange.MAX_BODY", 1000)
    async with Client(running) as client:
        await client.post(body=b"x" * 5000)
        status, body = await client.answer()
    assert status == "400"
    assert b"payload size exceeds" in body


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


@pytest.mark.parametrize(
    "odd",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PREFACE + bytes.fromhex("000005040000000000") + b"12345",
        PREFACE + bytes.fromhex("000005010500000001") + b"\xff" * 5,
        PREFACE + bytes.fromhex("000003000100000001") + b"abc",
    ],
    ids=["wrong preface", "wrong settings", "wrong header compression", "data without a stream"],
)
async def test_odd_bytes_end_only_their_connection(running, odd):
    """A client that breaks the protocol is cut off; others are served."""
    async with Client(running) as other:
        reader, writer = await other.connect()
        writer.write(odd)
        await reader.read()
        writer.close()
        await other.post()
        assert (await other.answer())[0] == "200"


async def test_headers_too_large_end_only_their_connection(running):
    """A header list over 64 KB gets GOAWAY and no crash."""
    async with Client(running) as client:
        await client.post(*[(f"x-{number}", "y" * 8000) for number in range(10)])
        events = await client.events(ConnectionTerminated)
        assert events[-1].error_code == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_client_that_says_goodbye_is_let_go(running):
    """GOAWAY from the client cancels what it left open."""
    async with Client(running) as client:
        await client.post(FOR_EVER)
        await running.stats.reached({"live": 1}, {})
        (answering,) = tasks_of_answers()
        client.h2.close_connection()
        await client.flush()
        await asyncio.wait([answering])
    assert answering.cancelled()
    await running.stats.reached({"cancelled": 1}, {"connections_open": 0})


async def test_stopping_says_goodbye(tmp_path):
    """A stop sends GOAWAY and ends the answers under way."""
    emulator = await Emulator(Options(directory=tmp_path)).start()
    async with Client(emulator) as client:
        await client.post(FOR_EVER)
        await emulator.stats.reached({"live": 1}, {})
        stopping = asyncio.create_task(emulator.stop())
        events = await client.events(ConnectionTerminated)
        await stopping
    assert any(isinstance(event, ConnectionTerminated) for event in events)
    assert tasks_of_answers() == []


def fault(rule):
    """Return the header field of a fault."""
    return ("x-emulator-fault", rule)


async def test_a_fault_resets_its_stream_with_its_code(running):
    """RST_STREAM carries the code asked for; the other stream of the connection goes on."""
    async with Client(running) as client:
        other = await client.post(("x-emulator-tpot", "0.05"))
        struck = await client.post(fault("reset;after=1;code=ENHANCE_YOUR_CALM"))
        events = await client.events(StreamEnded)
    (reset,) = [event for event in events if isinstance(event, StreamReset)]
    assert (reset.stream_id, reset.error_code) == (struck, ErrorCodes.ENHANCE_YOUR_CALM)
    assert events[-1].stream_id == other
    assert running.stats.snapshot()["faults"] == {"reset": 1}


async def test_a_graceful_goaway_lets_open_streams_end(running):
    """GOAWAY names the highest stream looked at; open ones are answered, new ones are not, then it hangs up."""
    async with Client(running) as client:
        client.h2.state_machine.process_input = lambda _: []  # a client that goes on after GOAWAY, as it may
        await client.events(SettingsAcknowledged)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 9  # a third stream is not refused for that
        client.h2.remote_settings.acknowledge()
        other = await client.post(("x-emulator-tpot", "0.05"))
        struck = await client.post(fault("goaway;after=1;graceful;last_stream=all"))
        events = await client.events(ConnectionTerminated)
        (goaway,) = [event for event in events if isinstance(event, ConnectionTerminated)]
        assert (goaway.error_code, goaway.last_stream_id) == (ErrorCodes.NO_ERROR, struck)
        await client.post()
        events += await client.events(type(None))
    assert {event.stream_id for event in events if isinstance(event, StreamEnded)} == {other, struck}
    assert running.stats.totals()["requests"] == 2


async def test_a_goaway_may_cut_off_the_streams_before_it(running):
    """Without grace the connection ends at once: the neighbour is cut too, and that is not its client's doing."""
    async with Client(running) as client:
        await client.post(FOR_EVER)
        await client.post(fault("goaway;last_stream=before;code=ENHANCE_YOUR_CALM"))
        events = await client.events(type(None))
        (goaway,) = [event for event in events if isinstance(event, ConnectionTerminated)]
    assert (goaway.error_code, goaway.last_stream_id) == (ErrorCodes.ENHANCE_YOUR_CALM, 1)
    assert running.stats.snapshot()["faults"] == {"goaway": 1, "cut": 1}
    assert running.stats.totals()["cancelled"] == 0


async def test_a_defect_resets_its_stream_and_is_logged(running, caplog):
    """An exception nobody expects is logged with its request, and only its stream is reset."""

    async def broken(exchange):
        raise LookupError("broken")

    running.service.answer = broken
    async with Client(running) as client:
        with caplog.at_level(logging.ERROR):
            await client.post()
            events = await client.events(StreamReset)
    assert events[-1].error_code == ErrorCodes.INTERNAL_ERROR
    assert "emulator.answer.failed request=1" in caplog.text
