"""An HTTP/2 server that says and does whatever a test wants."""

import asyncio
import contextlib
import socket
import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

WORD = b'data: {"candidates": [{"content": {"parts": [{"text": "word"}]}}]}\r\n\r\n'
LAST = b'data: {"candidates": [{"content": {"parts": [{"text": "."}]}, "finishReason": "STOP"}]}\r\n\r\n'


class Asked:
    """One request, as the server has it."""

    def __init__(self, peer, stream_id):
        self.peer, self.id = peer, stream_id
        self.left = asyncio.Event()

    def say(self, data, *, first=False, last=False):
        """Send the head, a piece of the answer, or its end."""
        if first:
            self.peer.h2.send_headers(self.id, [(":status", "200"), ("content-type", "text/event-stream")])
        self.peer.h2.send_data(self.id, data, end_stream=last)
        self.peer.send()

    def answer(self):
        """Send a whole answer."""
        self.say(LAST, first=True, last=True)

    def reset(self, code):
        """End the stream."""
        self.peer.h2.reset_stream(self.id, code)
        self.peer.send()


class Peer(asyncio.Protocol):
    """One connection at the server."""

    def __init__(self, server):
        self.server = server
        self.ended = asyncio.Event()
        self.asked = {}

    def connection_made(self, transport):
        """Say hello."""
        self.server.peers.append(self)
        self.transport = transport
        self.h2 = H2Connection(H2Configuration(client_side=False))
        allowed = {} if self.server.allowed is None else {SettingCodes.MAX_CONCURRENT_STREAMS: self.server.allowed}
        self.h2.local_settings = Settings(client=False, initial_values=allowed)
        self.h2.initiate_connection()
        self.send()

    def data_received(self, data):
        """Note requests, and those who leave."""
        if self.server.deaf:
            return
        for event in self.h2.receive_data(data):
            match event:
                case RequestReceived():
                    self.asked[event.stream_id] = Asked(self, event.stream_id)
                case StreamEnded():
                    self.server.requests.put_nowait(self.asked[event.stream_id])
                case StreamReset():
                    self.asked[event.stream_id].left.set()
                case ConnectionTerminated():
                    self.transport.close()
        self.send()

    def connection_lost(self, error):
        """Note the end."""
        self.ended.set()

    def send(self, more=b""):
        """Write what there is."""
        self.transport.write(self.h2.data_to_send() + more)

    def goaway(self, last, code=ErrorCodes.NO_ERROR, debug=b""):
        """Say goodbye; `h2` would take no more streams' data after its own."""
        self.send(GoAwayFrame(0, last, code, debug).serialize())

    def cut(self):
        """Reset the TCP connection."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


class Server:
    """An HTTP/2 server without TLS that answers as it is told."""

    def __init__(self):
        self.peers, self.requests, self.deaf, self.allowed = [], asyncio.Queue(), False, 100

    async def next(self, count=1):
        """Return the next requests, in the order of their streams."""
        asked = [await asyncio.wait_for(self.requests.get(), 5) for _ in range(count)]
        return asked[0] if count == 1 else sorted(asked, key=lambda one: one.id)


@contextlib.asynccontextmanager
async def listening(tls=None):
    """Run a server while the block runs; its `port` is the system's choice."""
    made = Server()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Peer(made), "127.0.0.1", 0, ssl=tls) as at:
        made.port = at.sockets[0].getsockname()[1]
        yield made
        for peer in made.peers:
            peer.transport.abort()
            await peer.ended.wait()
