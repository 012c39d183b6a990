"""Commands and replies of asyncio connections to the data server."""

import asyncio

import pytest
import redis.asyncio
from redis.exceptions import DataError, ResponseError

from genqueue_worker.packing import Packing


class Packed(Packing, redis.asyncio.Connection):
    """A connection as the worker has it."""


@pytest.mark.parametrize("command", [("EVALSHA", "ab", 1, "key", b"\xff\0", 5, "ü"), ("SCRIPT LOAD", "return 1")])
def test_commands_are_what_redis_py_sends(command):
    """Text, bytes and numbers; names of two words too."""
    plain, packed = redis.asyncio.Connection(), Packed()
    assert b"".join(packed.pack_command(*command)) == b"".join(plain.pack_command(*command))
    both = [command, ("PING",)]
    assert b"".join(packed.pack_commands(both)) == b"".join(plain.pack_commands(both))


def test_what_cannot_be_sent_is_told():
    """As redis-py tells it."""
    with pytest.raises(DataError):
        Packed().pack_command("SET", "key", object())


async def test_replies_come_in_order_however_they_are_cut():
    """Whether they are there already or must be waited for; an error is raised and harms none behind it."""
    replies = b":1\r\n*2\r\n$2\r\nok\r\n:2\r\n-ERR no\r\n$-1\r\n:3\r\n"

    async def answer(_reader, writer):
        for at in range(0, len(replies), 5):
            writer.write(replies[at : at + 5])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(replies)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Packed(port=port, protocol=2)
    try:
        await connection._connect()
        connection._parser.on_connect(connection)  # without the greeting that a real server gets
        for _ in range(2):
            assert await connection.read_response() == 1
            assert await connection.read_response() == [b"ok", 2]
            with pytest.raises(ResponseError, match="no"):
                await connection.read_response()
            assert await connection.read_response() is None
            assert await connection.read_response() == 3
    finally:
        await connection.disconnect()
        server.close()
        await server.wait_closed()
