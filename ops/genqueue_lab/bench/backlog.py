"""A server with so many queued jobs, and how long a submit, a claim and the pickup of a high job take there."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any, Final, Self

import redis

from genqueue import Client, ledger, scripts
from genqueue.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Jobs of one submit_many while a server is filled: the handles of a million are not kept.
SHARD: Final = 20_000

MODEL: Final = "gemini-2.5-flash"

#: Seconds until nobody wants the answer of a queued job: none expires while this is measured.
DEADLINE: Final = 86_400.0

#: Seconds that a pickup may take.
PATIENCE: Final = 30.0

_QUEUE: Final = "generate.normal"
_LEASES: Final = ledger.Leases(3_600_000, 3_600_000, 3_600_000)


class Backlog:
    """A server with a backlog on the normal lane; a context manager. Every measurement leaves it as long as it was.

    Args:
        url: of the server.
        size: how many jobs are queued.

    Attributes:
        size: as given.
        bytes_a_job: of the server's memory, once it was filled.
        filling: seconds that took.
    """

    def __init__(self, url: str, size: int) -> None:
        self.size = size
        self.bytes_a_job = 0.0
        self.filling = 0.0
        self._server = redis.Redis.from_url(url)
        self._client = Client(data_url=url, broker_url=url)
        self._keys = Keys()
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.close()

    def fill(self, say: Callable[[str], object]) -> None:
        """Queue the jobs, by submit_many."""
        began, before = time.monotonic(), self._memory()
        for start in range(0, self.size, SHARD):
            count = min(SHARD, self.size - start)
            refused = [job for job in self._client.submit_many(self._items(count)) if isinstance(job, Exception)]
            if refused:
                raise RuntimeError(f"{len(refused)} of {count} jobs were not accepted: {refused[0]}")
            if (start + count) % (5 * SHARD) == 0:
                say(f"{start + count:,} of {self.size:,} jobs queued")
        self.filling = time.monotonic() - began
        self.bytes_a_job = (self._memory() - before) / self.size

    def submit(self, *, by_scanning: bool = False) -> float:
        """Submit another job and return the seconds it took; the control looks for an equal one before, one by one."""
        (item,) = self._items(1)
        began = time.perf_counter()
        if by_scanning:
            for key in self._server.scan_iter(f"{self._keys.prefix}:*:job:*", count=10_000):
                if key == b"none has this name":
                    break
        self._client.submit(item["contents"], model=item["model"], deadline=item["deadline"])
        return time.perf_counter() - began

    def claim(self) -> float:
        """Take the oldest message off the queue and claim its flight as a worker does; returns the claim's seconds."""
        message: Any = self._server.rpop(_QUEUE)
        flight, _, stamp = json.loads(message)["headers"]["id"].rpartition(".")
        wish = ledger.Claim(flight, f"token {flight}", int(stamp), self._keys.inbox("bench"), _LEASES)
        call = ledger.claim(self._keys, wish)
        began = time.perf_counter()
        reply = scripts.run(self._server, call)
        seconds = time.perf_counter() - began
        if reply[0] != b"ok":
            raise RuntimeError(f"a claim was refused: {reply[0].decode()}")
        return seconds

    def pickup(self) -> float:
        """Submit a high job and return the seconds until a worker has started it; waits for its end."""
        began, started = time.perf_counter(), 0.0
        job = self._client.submit(f"urgent {next(self._numbers)}", model=MODEL, lane="high", share="none")
        for event in job.tail(timeout=PATIENCE):
            if event.type == "started":
                started = time.perf_counter() - began
        if not started:
            raise RuntimeError("a high job was not started")
        return started

    def _items(self, count: int) -> Iterator[dict[str, Any]]:
        for number in itertools.islice(self._numbers, count):
            yield {"contents": f"queued {number}", "model": MODEL, "deadline": DEADLINE}

    def _memory(self) -> int:
        found: Any = self._server.info("memory")
        return int(found["used_memory"])
