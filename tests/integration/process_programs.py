"""Programs that processes of their own run: what only a fork, a patched interpreter or a fresh loop can show.

`python -W error process_programs.py <program> <data URL> <key prefix>` ends with 0 when all went as it should.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "gemini-2.5-flash"
#: What a job's reader is shown.
STORY = ["queued", "delta", "completed"]


def patch() -> None:
    """Let gevent replace what blocks, before anything else is imported."""
    from gevent import monkey

    monkey.patch_all()


class Desk:
    """A client's other end: claims, writes and settles with ledger calls."""

    def __init__(self, url: str, prefix: str) -> None:
        import redis

        from genqueue.keys import Keys

        self.keys = Keys(prefix)
        self.redis = redis.Redis.from_url(url)

    def run(self, call: Any) -> None:
        """Run a call."""
        from genqueue import scripts

        scripts.run(self.redis, call)

    def claim(self, flight: str) -> str:
        """Claim a flight; returns the token."""
        from genqueue import ledger

        token = secrets.token_hex(8)
        stamp = int(self.redis.hget(self.keys.flight(flight), "stamp"))
        leases = ledger.Leases(60_000, 60_000, 60_000)
        self.run(ledger.claim(self.keys, ledger.Claim(flight, token, stamp, self.keys.inbox("test"), leases)))
        return token

    def say(self, flight: str, token: str, number: int) -> None:
        """Write a delta."""
        from genqueue import ledger

        self.run(ledger.append(self.keys, flight, token, number, [{"type": "delta", "text": str(number)}]))

    def finish(self, flight: str) -> None:
        """Do all of a flight's work."""
        from genqueue import ledger

        token = self.claim(flight)
        self.say(flight, token, 1)
        self.run(ledger.settle(self.keys, ledger.Settlement(flight, token, "succeeded", 2, result='{"text":"Yes."}')))


def flight_of(stream_key: str) -> str:
    """Return the flight a stream belongs to."""
    return stream_key.rpartition(":")[2]


def in_a_child(body: Callable[[], None]) -> int:
    """Run a body in a forked process; returns that process's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: a thread is alive
        child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return child


def succeeded(child: int) -> bool:
    """Wait for a child and return whether all went well in it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def forked(url: str, prefix: str) -> None:
    """Fork in the middle of a tail: the child submits, tails and goes on with the copy; the parent notices nothing."""
    from genqueue import Client

    desk, client = Desk(url, prefix), Client(data_url=url, key_prefix=prefix)
    job = client.submit("parent", model=MODEL, share="none")
    flight = flight_of(job.stream_key)
    events = job.tail()
    token = desk.claim(flight)
    assert next(events).type == "queued"
    desk.say(flight, token, 1)
    assert next(events).text == "1"
    written, ready = os.pipe()

    def body() -> None:
        mine = Desk(url, prefix)
        own = client.submit("child", model=MODEL, share="none")
        mine.finish(flight_of(own.stream_key))
        assert [event.type for event in own.tail()] == STORY
        assert own.text() == "Yes."
        os.write(ready, b"!")
        assert [event.type for event in events] == ["delta", "completed"]
        client.close()

    child = in_a_child(body)
    assert os.read(written, 1) == b"!"
    desk.say(flight, token, 2)
    assert next(events).text == "2"
    from genqueue import ledger

    desk.run(ledger.settle(desk.keys, ledger.Settlement(flight, token, "succeeded", 3)))
    assert [event.type for event in events] == ["completed"]
    assert succeeded(child)
    assert client.submit("again", model=MODEL).status().state == "queued"
    client.close()
    desk.redis.close()
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]


def preloaded(url: str, prefix: str) -> None:
    """Make both clients before the fork, as a server that preloads its application does, and use them in children."""
    from genqueue import AsyncClient, Client

    client, async_client = Client(data_url=url, key_prefix=prefix), AsyncClient(data_url=url, key_prefix=prefix)

    async def one() -> None:
        job = await async_client.submit("x", model=MODEL, share="none")
        desk = Desk(url, prefix)
        desk.finish(flight_of(await job.stream_key()))
        assert [event.type async for event in job.tail()] == STORY
        desk.redis.close()
        await async_client.aclose()

    def body() -> None:
        job = client.submit("x", model=MODEL, share="none")
        desk = Desk(url, prefix)
        desk.finish(flight_of(job.stream_key))
        assert [event.type for event in job.tail()] == STORY
        asyncio.run(one())
        client.close()

    children = [in_a_child(body) for _ in range(3)]
    ends = [succeeded(child) for child in children]
    assert ends == [True] * 3
    body()


def loops(url: str, prefix: str) -> None:
    """Use one asyncio client on loops that follow each other and on loops side by side; nobody closes it in between."""
    from genqueue import AsyncClient

    client = AsyncClient(data_url=url, key_prefix=prefix)

    async def one() -> None:
        job = await client.submit("x", model=MODEL, share="none")
        desk = Desk(url, prefix)
        waiting = asyncio.create_task(job.text(timeout=30))
        await asyncio.to_thread(desk.finish, flight_of(await job.stream_key()))
        assert await waiting == "Yes."
        desk.redis.close()

    for _ in range(3):
        asyncio.run(one())
    threads = [threading.Thread(target=lambda: asyncio.run(one())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(client.aclose())


def greenlets(url: str, prefix: str) -> None:
    """Tail many jobs at once in greenlets."""
    import gevent

    from genqueue import Client

    desk, client = Desk(url, prefix), Client(data_url=url, key_prefix=prefix)
    jobs = [client.submit(str(number), model=MODEL, share="none") for number in range(50)]
    tails = [gevent.spawn(lambda job=job: [event.type for event in job.tail()]) for job in jobs]
    flights = [flight_of(job.stream_key) for job in jobs]
    while len(desk.redis.pubsub_channels(f"{prefix}:*")) < len(jobs):
        gevent.sleep(0.01)
    for flight in flights:
        desk.finish(flight)
    gevent.joinall(tails, timeout=30)
    assert [tail.value for tail in tails] == [STORY] * len(jobs)
    client.close()


if __name__ == "__main__":
    _, program, *arguments = sys.argv
    if program == "greenlets":
        patch()
    {"forked": forked, "preloaded": preloaded, "loops": loops, "greenlets": greenlets}[program](*arguments)
