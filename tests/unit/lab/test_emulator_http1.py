import asyncio
import json
import logging
import ssl

import pytest

from genqueue_lab.emulator import Options, Pace
from genqueue_lab.emulator.server import Emulator

BODY = json.dumps({"contents": {"parts": {"text": "hello"}}})
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=k"


def post(*headers, target=STREAM, body=BODY):
    """Return a request's bytes."""
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@pytest.fixture
async def running(tmp_path):
    """Run an emulator in the test's own loop."""
    async with Emulator(Options(pace=Pace(ttft=0, tpot=0, tokens=5), directory=tmp_path)) as emulator:
        yield emulator


@pytest.fixture
async def connection(running):
    """Open a TLS connection that offers no ALPN."""
    context = ssl.create_default_context(cafile=running.ca_file)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
    yield reader, writer
    writer.close()


async def answer(reader):
    """Read one answer with a chunked body or a length; return the head and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "transfer-encoding: chunked" not in head:
        return head, await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return head, body


async def test_a_connection_is_kept_and_requests_may_queue(running, connection):
    """Two requests sent at once are answered in turn on one connection."""
    reader, writer = connection
    writer.write(post() + post(target=STREAM.replace("alt=sse&", "")))
    head, body = await answer(reader)
    assert "text/event-stream" in head
    assert body.count(b"data: ") == 5
    _, body = await answer(reader)
    assert len(json.loads(body)) == 5
    (record,) = running.stats.snapshot()["connections"]
    assert (record["protocol"], record["streams"], record["peak"]) == ("http/1.1", 2, 1)


async def test_close_is_heeded(connection):
    """After `Connection: close` the emulator hangs up."""
    reader, writer = connection
    writer.write(post("Connection: close"))
    await answer(reader)
    assert await reader.read() == b""


async def test_a_client_may_ask_before_it_sends_its_body(connection):
    """`Expect: 100-continue` is answered before the body."""
    reader, writer = connection
    head, _, body = post("Expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await answer(reader))[0].startswith("http/1.1 200 ok")


async def test_a_client_that_hangs_up_cancels_its_answer(running, connection):
    """A connection cut during an answer is recorded as cancelled and its task ends."""
    _, writer = connection
    writer.write(post("x-emulator-ttft: 3600"))
    await running.stats.reached({"live": 1}, {})
    (answering,) = [task for task in asyncio.all_tasks() if "Connection._answer" in repr(task.get_coro())]
    writer.transport.abort()
    await running.stats.reached({"cancelled": 1}, {"live": 0, "connections_open": 0})
    await asyncio.wait([answering])
    assert answering.cancelled()


@pytest.mark.parametrize(
    ("odd", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"\x00\xff" * 100 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
async def test_bytes_that_are_no_http_get_an_error_and_the_door(connection, odd, status):
    """Nonsense, a missing host, a head too large and a broken body are answered in HTTP and cut off."""
    reader, writer = connection
    writer.write(odd)
    assert (await reader.read()).startswith(b"HTTP/1.1 " + status)


async def test_a_client_without_tls_is_turned_away_quietly(running, connection, caplog):
    """Plain bytes on the TLS port end their own connection and nothing else."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    with caplog.at_level(logging.WARNING):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in await reader.read()
    writer.close()
    reader, writer = connection
    writer.write(post())
    assert (await answer(reader))[0].startswith("http/1.1 200 ok")
    assert caplog.text == ""


async def test_a_defect_ends_its_connection_and_is_logged(running, connection, caplog):
    """An exception nobody expects cuts the connection and is logged with its request."""

    async def broken(exchange):
        raise LookupError("broken")

    running.service.answer = broken
    reader, writer = connection
    with caplog.at_level(logging.ERROR):
        writer.write(post())
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await answer(reader)
    assert "emulator.answer.failed request=1" in caplog.text
