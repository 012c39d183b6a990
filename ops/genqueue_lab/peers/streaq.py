"""Streaq: `python -m genqueue_lab.peers.streaq REDIS_URL` is its worker. It reads a stream in a consumer group."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvloop
from redis.asyncio import Redis
from streaq import Worker  # type: ignore[import-not-found] # in an environment of its own, as all it needs

from genqueue_lab.peers import answers
from genqueue_lab.peers.reading import follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@asynccontextmanager
async def _bare() -> AsyncIterator[None]:
    yield None


def queue(url: str, lifespan: Any = _bare) -> tuple[Any, Any]:
    """Return a worker and its task; who queues needs both too."""
    worker: Any = Worker(redis_url=url, concurrency=answers.SLOTS, lifespan=lifespan)

    @worker.task(name="generate", ttl=0)  # type: ignore[untyped-decorator]
    async def generate(prompt: str) -> None:
        await worker.context.write(generate.context.task_id, prompt)

    return worker, generate


async def work(url: str) -> None:
    """Run a worker."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[answers.Answers]:
        async with answers.answers(url) as found:
            answers.ready()
            yield found

    worker, _ = queue(url, lifespan)
    await worker.run_async()


class Streaq:
    """Queues tasks and reads their streams."""

    def __init__(self, task: Any, database: Redis) -> None:
        self._task = task
        self._database = database

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Queue a task and yield at each delta of its stream."""
        queued = await self._task.enqueue(prompt)
        async for _ in follow(self._database, answers.stream_of(queued.id)):
            yield


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Streaq]:
    """Make the series of a config with the `url` of its database."""
    worker, task = queue(config["url"])
    async with worker, Redis.from_url(config["url"], socket_timeout=None) as database:
        yield Streaq(task, database)


if __name__ == "__main__":
    uvloop.run(work(answers.url_given()))
