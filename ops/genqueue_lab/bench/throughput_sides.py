"""The two sides of the throughput benchmark: genqueue and the textbook set-up, each with one worker process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis

from genqueue import Client, Job
from genqueue.keys import Keys
from genqueue.settings import Settings
from genqueue_lab.bench.bed import worker_cpu
from genqueue_lab.textbook.app import app, stream_of
from genqueue_lab.textbook.peer import TextbookWorker
from genqueue_lab.textbook.producer import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from genqueue_lab.bench.bed import Bed
    from genqueue_lab.drill.crew import Worker

#: Model that every job asks.
MODEL: Final = "gemini-2.5-flash"

#: Seconds a round may take, and between two looks whether it is over.
PATIENCE: Final = 120.0
LOOK: Final = 0.05

#: Databases of the server that the sides have to themselves.
GENQUEUE, TEXTBOOK = 1, 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stream of a round cost, in seconds.

    Attributes:
        wall: of time.
        worker: of the processor, for the worker's processes.
        server: of the processor, for the server.
    """

    wall: float
    worker: float
    server: float


class Side(Protocol):
    """One set-up with one worker."""

    worker: Worker

    def load(self, prefix: str, count: int) -> None:
        """Queue prompts that begin with `prefix`, and return when all have ended."""
        ...

    def events(self) -> list[list[bytes]]:
        """Return the types of the events of each job that was queued last."""
        ...


def measure(bed: Bed, side: Side, prefix: str, count: int) -> Cost:
    """Run one round; raises RuntimeError when an answer is not whole: cheap and wrong is not cheap."""
    with redis.Redis.from_url(bed.server.url()) as server:
        worker, served, wall = worker_cpu(side.worker), _cpu_of(server), time.monotonic()
        side.load(prefix, count)
        wall, worker, served = time.monotonic() - wall, worker_cpu(side.worker) - worker, _cpu_of(server) - served
    chunks = bed.pace.tokens
    if broken := sum(not _is_whole(types, chunks) for types in side.events()):
        raise RuntimeError(f"{broken} of {count} answers were not streamed in {chunks} pieces that end once")
    return Cost(wall / count, worker / count, served / count)


class Genqueue:
    """Genqueue with one worker as it comes, or without some of its mechanisms.

    Args:
        bed: where it runs.
        stack: ends what it opens.
        without: the mechanisms it goes without, see `hampered`; None for none.
    """

    def __init__(self, bed: Bed, stack: ExitStack, without: str | None) -> None:
        url = bed.server.url(GENQUEUE)
        settings = Settings.load(data_url=url, broker_url=url)
        self._keys = Keys(settings.key_prefix)
        self._redis = stack.enter_context(redis.Redis.from_url(url))
        self._client = stack.enter_context(Client(settings))
        self._jobs: list[Job] = []
        self.worker = bed.hire(without, DATA_URL=url, BROKER_URL=url)

    def load(self, prefix: str, count: int) -> None:
        """Queue different questions, and return when no flight is unfinished."""
        items = [{"contents": f"{prefix} {number}"} for number in range(count)]
        self._jobs = [job for job in self._client.submit_many(items, model=MODEL) if isinstance(job, Job)]
        _wait(lambda: not self._unfinished())

    def events(self) -> list[list[bytes]]:
        """Return the types of the events of each job that was queued last."""
        return _types(self._redis, [job.stream_key for job in self._jobs])

    def _unfinished(self) -> int:
        with self._redis.pipeline(transaction=False) as pipeline:
            for partition in range(self._keys.partitions):
                pipeline.zcard(f"{self._keys.slot(partition)}ledger")
            return sum(pipeline.execute())


class _SendingWorker(TextbookWorker):
    """A textbook worker that sends task events, as ours does."""

    def command(self, without: str | None) -> tuple[str, ...]:
        """Return the program and its arguments."""
        return (*super().command(without), "--task-events")


class Textbook:
    """The textbook set-up with one worker; the same arguments."""

    def __init__(self, bed: Bed, stack: ExitStack) -> None:
        url = bed.server.url(TEXTBOOK)
        self._redis = stack.enter_context(redis.Redis.from_url(url))
        self._connection = stack.enter_context(app.connection_for_write(url=url))
        self._jobs: list[str] = []
        environment = {"TEXTBOOK_REDIS_URL": url, **bed.provider()}
        self.worker = bed.employ(_SendingWorker, "textbook", environment)

    def load(self, prefix: str, count: int) -> None:
        """Queue prompts, and return when each has ended: from then on its stream expires."""
        self._jobs = [submit(f"{prefix} {number}", "normal", self._connection) for number in range(count)]
        _wait(lambda: not self._unfinished())

    def events(self) -> list[list[bytes]]:
        """Return the types of the events of each job that was queued last."""
        return _types(self._redis, [stream_of(job) for job in self._jobs])

    def _unfinished(self) -> int:
        with self._redis.pipeline(transaction=False) as pipeline:
            for job in self._jobs:
                pipeline.ttl(stream_of(job))
            return sum(seconds < 0 for seconds in pipeline.execute())


def _wait(over: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not over():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not all jobs of a round ended within {PATIENCE:g} s")
        time.sleep(LOOK)


def _types(server: redis.Redis, streams: Sequence[str]) -> list[list[bytes]]:
    with server.pipeline(transaction=False) as pipeline:
        for stream in streams:
            pipeline.xrange(stream)
        found: list[Any] = pipeline.execute()
    return [[fields[b"type"] for _, fields in entries] for entries in found]


def _is_whole(types: Sequence[bytes], chunks: int) -> bool:
    return types.count(b"delta") == chunks and types.count(b"completed") == 1 and types[-1] == b"completed"


def _cpu_of(server: redis.Redis) -> float:
    used: Any = server.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
