"""Taskiq: `python -m genqueue_lab.peers.taskiq REDIS_URL` is its worker, on the broker with acknowledgements."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvloop
from redis.asyncio import Redis
from taskiq.api import run_receiver_task  # type: ignore[import-not-found] # in an environment of its own
from taskiq_redis import RedisStreamBroker  # type: ignore[import-not-found]

from genqueue_lab.peers import answers
from genqueue_lab.peers.reading import follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


def queue(url: str, found: answers.Answers | None = None) -> tuple[Any, Any]:
    """Return a broker and its task; who queues needs both too, without answers."""
    broker: Any = RedisStreamBroker(url)

    @broker.task(task_name="generate")  # type: ignore[untyped-decorator]
    async def generate(job_id: str, prompt: str) -> None:
        assert found is not None  # noqa: S101 - for the type checker: a worker has them
        await found.write(job_id, prompt)

    return broker, generate


async def work(url: str) -> None:
    """Run a worker."""
    async with answers.answers(url) as found:
        broker, _ = queue(url, found)
        broker.is_worker_process = True
        await broker.startup()
        answers.ready()
        await run_receiver_task(broker, max_async_tasks=answers.SLOTS)


class Taskiq:
    """Queues tasks and reads their streams."""

    def __init__(self, task: Any, database: Redis) -> None:
        self._task = task
        self._database = database

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Queue a task and yield at each delta of its stream."""
        kicker = self._task.kicker()
        job_id = kicker.broker.id_generator()
        await kicker.with_task_id(job_id).kiq(job_id, prompt)
        async for _ in follow(self._database, answers.stream_of(job_id)):
            yield


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Taskiq]:
    """Make the series of a config with the `url` of its database."""
    broker, task = queue(config["url"])
    await broker.startup()
    async with Redis.from_url(config["url"], socket_timeout=None) as database:
        yield Taskiq(task, database)
    await broker.shutdown()


if __name__ == "__main__":
    uvloop.run(work(answers.url_given()))
