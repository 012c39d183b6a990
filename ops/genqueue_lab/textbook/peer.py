"""The textbook set-up in a drill: its workers as processes, what it accepted, and what became of that."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import redis
from kombu.exceptions import OperationalError

from genqueue_lab.drill.crew import Worker
from genqueue_lab.textbook.app import QUEUES, app, stream_of
from genqueue_lab.textbook.producer import ENDS, submit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from genqueue_lab.emulator import EmulatorProcess

#: Answers that one worker streams at once.
THREADS: Final = 20

#: Seconds between two looks at who has ended.
LOOK: Final = 0.2

#: Seconds a worker has after SIGTERM at the end.
STOP_PATIENCE: Final = 5.0

_ARGUMENTS: Final = ("-l", "INFO", "--pool", "threads", "--concurrency", str(THREADS), "--queues", ",".join(QUEUES))


class TextbookWorker(Worker):
    """One worker process of the textbook set-up, steered as any worker of a drill."""

    def command(self, without: str | None) -> tuple[str, ...]:  # noqa: ARG002 - it has no mechanism to go without
        """Return the program and its arguments."""
        return (sys.executable, "-P", "-m", "celery", "-A", "genqueue_lab.textbook.app", "worker", *_ARGUMENTS)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the jobs.

    Attributes:
        accepted: submits that returned.
        ended: how many ended, by outcome.
        lost: jobs without an end; Celery queues those of a lost worker again after the visibility timeout, an hour.
        doubled: jobs with more than one end.
        behind: jobs whose stream goes on behind its end.
    """

    accepted: int
    ended: Mapping[str, int]
    lost: int
    doubled: int
    behind: int


class Peer:
    """The textbook set-up on a server and an emulator; a context manager that ends its workers.

    Args:
        url: of a Redis database of its own, for those who submit; and for workers that are not told another.
        emulator: the provider.
        logs: where the workers' logs are kept; None keeps none.

    Attributes:
        workers: those that were started.
        accepted: ids of the jobs whose submit returned.
        refused: submits that failed.
    """

    def __init__(self, url: str, emulator: EmulatorProcess, logs: Path | None = None) -> None:
        self.workers: list[TextbookWorker] = []
        self.accepted: list[str] = []
        self.refused = 0
        self._url = url
        self._emulator = emulator
        self._logs = logs
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._connection = stack.enter_context(app.connection_for_write(url=self._url))
            self._database = stack.enter_context(redis.Redis.from_url(self._url))
            stack.callback(self._end_workers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def hire(self, url: str | None = None) -> TextbookWorker:
        """Start a worker; whoever needs it waits for it."""
        name = f"textbook{len(self.workers) + 1}"
        environment = {
            "TEXTBOOK_REDIS_URL": url or self._url,
            "GEMINI_API_KEY": "emulator",
            "GOOGLE_GEMINI_BASE_URL": self._emulator.url,
            "SSL_CERT_FILE": str(self._emulator.ca_file),
            "PYTHONUNBUFFERED": "1",
        }
        log = None if self._logs is None else self._logs / f"{name}.log"
        worker = TextbookWorker(name, environment, None, log)
        self.workers.append(worker)
        return worker

    def hire_ready(self, count: int) -> list[TextbookWorker]:
        """Start some workers together and return them once all consume."""
        hired = [self.hire() for _ in range(count)]
        for worker in hired:
            worker.wait_ready()
        return hired

    def submit(self, prompt: str, lane: str) -> str | None:
        """Submit a prompt; returns the job's id, or None when the broker was away for too long."""
        try:
            job_id = submit(prompt, lane, self._connection)
        except (OperationalError, OSError, redis.RedisError):
            self.refused += 1
            return None
        self.accepted.append(job_id)
        return job_id

    def wait_ended(self, patience: float) -> bool:
        """Wait until every job has ended, or until nothing has for so many seconds; returns whether all have."""
        left, give_up = len(self.accepted), time.monotonic() + patience
        while left:
            if (now_left := self.tally().lost) < left:
                give_up = time.monotonic() + patience
            left = now_left
            if left and time.monotonic() > give_up:
                return False
            time.sleep(LOOK)
        return True

    def tally(self) -> Tally:
        """Read every stream, and say what became of the jobs."""
        with self._database.pipeline(transaction=False) as pipeline:
            for job_id in self.accepted:
                pipeline.xrange(stream_of(job_id))
            streams: list[Any] = pipeline.execute()
        kinds = [[fields[b"type"].decode() for _, fields in entries] for entries in streams]
        ends = [[kind for kind in one if kind in ENDS] for one in kinds]
        first = [found[0] for found in ends if found]
        return Tally(
            accepted=len(self.accepted),
            ended={outcome: first.count(outcome) for outcome in sorted(set(first))},
            lost=sum(not found for found in ends),
            doubled=sum(len(found) > 1 for found in ends),
            behind=sum(_goes_on(one) for one in kinds),
        )

    def _end_workers(self) -> None:
        for worker in self.workers:
            if worker.alive:
                worker.thaw()
                worker.kill()


def _goes_on(kinds: Sequence[str]) -> bool:
    """Say whether there is anything behind the first end."""
    first = next((number for number, kind in enumerate(kinds) if kind in ENDS), len(kinds))
    return len(kinds) > first + 1
