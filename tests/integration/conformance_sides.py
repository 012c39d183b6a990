"""Clients of every kind with a scripted provider behind each, under one set of names: what the conformance suite asks.

On a real server the test's own process is the worker: it pops the broker's messages and plays the scripts by the
ledger's calls, with the player that the clients in memory have inside them.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import redis

from genqueue import Client, scripts
from genqueue.keys import Keys
from genqueue.lanes import QUEUES
from genqueue.ledger import Publication
from genqueue.payload.codec import Codec
from genqueue.testing import AsyncMemoryClient, MemoryClient, Recorded
from genqueue.testing.player import Player

from .client_sides import LoopedClient, LoopThread

if TYPE_CHECKING:
    from genqueue.testing.script import Answer


class ServerSide:
    """A client of a real server, and its worker.

    Attributes:
        client: the client.
        redis: a connection to the data server.
        keys: the deployment's keys.
    """

    def __init__(self, client: Any, url: str, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.redis = redis.Redis.from_url(url)
        self._player = Player(self._run, keys, Codec(), lambda: int(time.time() * 1000))
        self._holding = False

    def script(self, *answers: Answer) -> None:
        """Say what the next questions are answered."""
        self._player.script(*answers)

    def submit(self, *contents: object, **options: Any) -> Any:
        """Queue a request, and have it worked on unless that is held."""
        job = self.client.submit(*contents, **options)
        self._work()
        return job

    def submit_many(self, items: Any, **defaults: Any) -> list[Any]:
        """Queue requests, and have them worked on."""
        made: list[Any] = self.client.submit_many(items, **defaults)
        self._work()
        return made

    def replay(self, job_id: str, /, **options: Any) -> Any:
        """Queue a dead letter's request anew, and have it worked on."""
        job = self.client.replay(job_id, **options)
        self._work()
        return job

    def hold(self) -> None:
        """Let jobs stay queued."""
        self._holding = True

    def release(self) -> None:
        """Let everything go on."""
        self._player.release()
        self._holding = False
        self._work()

    def pass_deadline(self, job: Any, seconds: float) -> None:
        """Look after a job's partition as if some seconds had passed."""
        self._player.sweep(self.keys.partition_of_id(job.id), int((time.time() + seconds) * 1000))

    def messages(self) -> int:
        """Return how many messages the broker has."""
        return sum(self.redis.llen(queue) for queue in QUEUES)  # type: ignore[misc]

    def close(self) -> None:
        """Close every connection."""
        self.client.close()
        self.redis.close()

    def _work(self) -> None:
        while not self._holding and (found := self._pop()) is not None:
            self._player.take(found, self._request(found.flight))

    def _pop(self) -> Publication | None:
        for queue in QUEUES:
            message = self.redis.rpop(queue)
            if message is not None:
                (flight, stamp), *_ = json.loads(base64.b64decode(json.loads(message)["body"]))  # type: ignore[arg-type]
                return Publication(flight, queue, stamp)
        return None

    def _request(self, flight: str) -> Recorded:
        request: Any = self.redis.hget(self.keys.flight(flight), "request")
        document = json.loads(request or b'{"model": "", "contents": []}')
        return Recorded("", "normal", "", 0.0, "use", document["model"], document["contents"], None, {}, document)

    def _run(self, call: scripts.Call) -> Any:
        return scripts.run(self.redis, call)


class MemorySide:
    """A client in memory; what it offers a test is what the suite asks.

    Attributes:
        client: the client, in the blocking form.
        redis: what is stored.
        keys: the deployment's keys.
    """

    def __init__(self, client: Any, memory: MemoryClient | AsyncMemoryClient) -> None:
        self.client = client
        self.redis = memory.server.redis
        self.keys = memory.server.keys
        self.script = memory.script
        self.submit = client.submit
        self.submit_many = client.submit_many
        self.replay = client.replay
        self.hold = memory.hold
        self.release = memory.release
        self.close = client.close
        self._memory = memory

    def pass_deadline(self, _job: Any, seconds: float) -> None:
        """Move the clock."""
        self._memory.advance(seconds)

    def messages(self) -> int:
        """Return how many flights wait to be taken."""
        return len(self._memory.server.waiting)


class LoopedMemoryClient(LoopedClient):
    """The asyncio client in memory, with the methods of the blocking one."""

    def __init__(self, memory: AsyncMemoryClient) -> None:
        self._runner = LoopThread()
        self._client = memory


def blocking(url: str, prefix: str) -> ServerSide:
    """Return the blocking client of a real server."""
    return ServerSide(Client(data_url=url, key_prefix=prefix), url, Keys(prefix))


def asyncio(url: str, prefix: str) -> ServerSide:
    """Return the asyncio client of a real server."""
    return ServerSide(LoopedClient(data_url=url, key_prefix=prefix), url, Keys(prefix))


def blocking_memory(url: str, prefix: str) -> MemorySide:
    """Return the blocking client in memory."""
    memory = MemoryClient(data_url=url, key_prefix=prefix)
    return MemorySide(memory, memory)


def asyncio_memory(url: str, prefix: str) -> MemorySide:
    """Return the asyncio client in memory."""
    memory = AsyncMemoryClient(data_url=url, key_prefix=prefix)
    return MemorySide(LoopedMemoryClient(memory), memory)


#: Every kind of client; whatever is asked of one is asked of the others.
SIDES = {made.__name__: made for made in (blocking, asyncio, blocking_memory, asyncio_memory)}
