"""Lines of httpcore's, with no network between."""

import asyncio

import httpx
import pytest
from hpack import Encoder
from hyperframe.frame import HeadersFrame, SettingsFrame

from genqueue_worker.providers.httpcore_lines import HttpcoreHttp2Line
from genqueue_worker.providers.wire import Wire


class Sink(asyncio.Transport):
    """A transport that keeps nothing."""

    def __init__(self, wire):
        super().__init__()
        self.wire, self.closing = wire, False

    def write(self, data):
        """Take bytes."""

    def is_closing(self):
        """Say whether it is."""
        return self.closing

    def close(self):
        """Close once the loop has had its turn, as transports do."""
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.wire.connection_lost, None)


async def test_a_status_that_is_none_is_the_servers_fault():
    """It ends the request as any breach of the protocol does."""
    wire = Wire()
    line = HttpcoreHttp2Line(wire, 5.0, lambda: None)
    wire.connection_made(Sink(wire))
    head = Encoder().encode([(":status", "abc")])
    wire.data_received(SettingsFrame(0).serialize())
    asking = asyncio.create_task(line.send(httpx.Request("GET", "https://x/")))
    for _ in range(200):  # httpcore counts the places of a connection in turns of the loop
        await asyncio.sleep(0)
    wire.data_received(HeadersFrame(1, head, flags=["END_HEADERS", "END_STREAM"]).serialize())
    with pytest.raises(httpx.RemoteProtocolError, match="abc"):
        await asking
    await line.aclose()


async def test_a_connection_left_while_it_begins_takes_no_more():
    """Httpcore counts the places of a connection one by one, and cannot go on where it was cancelled."""
    for turns in range(1, 120, 20):
        wire, left = Wire(), []
        line = HttpcoreHttp2Line(wire, 5.0, lambda left=left: left.append(True))
        wire.connection_made(Sink(wire))
        asking = asyncio.create_task(line.send(httpx.Request("GET", "https://x/")))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert left == [True]
        await line.aclose()
        assert line.gone
