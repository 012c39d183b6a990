"""A server comes back with what its append-only file had at a moment before it was killed."""

import time

import redis

from genqueue_lab.drill.audit import wait_until
from genqueue_lab.drill.journal import Journal
from genqueue_lab.servers import RedisServer


def test_the_last_moments_are_forgotten():
    """What was written behind the moment is gone, what was written before it is there."""
    with RedisServer() as server, Journal(server) as journal, redis.Redis.from_url(server.url()) as client:
        file = server.directory / "appendonlydir"
        client.set("early", 1)
        length = sum(one.stat().st_size for one in file.glob("*.incr.aof"))
        assert wait_until(lambda: bool(journal.lengths) and journal.lengths[-1][2] >= length, 10)
        moment = time.monotonic()
        client.set("late", 1)
        server.kill()
        assert journal.forget(time.monotonic() - moment) <= moment
        server.start()
        assert client.keys() == [b"early"]
