"""A connection that was closed under its writer is a lost connection, whatever the event loop says of it."""

import pytest
import redis

from genqueue.connections import Sending


class Connection:
    """A connection whose loop fails in its own words."""

    def __init__(self, words):
        self.words = words

    async def send_packed_command(self, *_args, **_kwargs):
        """Fail."""
        raise RuntimeError(self.words)


class Mixed(Sending, Connection):
    """As the pools have them."""


async def test_a_closed_transport_is_a_lost_connection():
    """A loop such as uvloop raises RuntimeError where asyncio's own loses the connection in silence."""
    words = "unable to perform operation on <TCPTransport closed=True reading=False 0x7f>; the handler is closed"
    with pytest.raises(redis.ConnectionError, match="the handler is closed"):
        await Mixed(words).send_packed_command(b"PING")


async def test_other_faults_stay_what_they_are():
    """A loop that was closed is no trouble of the server's."""
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        await Mixed("Event loop is closed").send_packed_command(b"PING")
