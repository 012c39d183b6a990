"""SAQ: `python -m genqueue_lab.peers.saq REDIS_URL` is its worker. It waits in a blocking move, one for each slot."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvloop
from redis.asyncio import Redis
from saq import Queue, Worker  # type: ignore[import-not-found] # in an environment of its own, as all it needs

from genqueue_lab.peers import answers
from genqueue_lab.peers.reading import follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


async def generate(ctx: dict[str, Any], *, prompt: str) -> None:
    """Answer a prompt."""
    await ctx["answers"].write(ctx["job"].key, prompt)


async def work(url: str) -> None:
    """Run a worker."""
    async with answers.answers(url) as found:

        async def started(ctx: dict[str, Any]) -> None:
            ctx["answers"] = found
            answers.ready()

        queue = Queue.from_url(url)
        await Worker(queue, [generate], concurrency=answers.SLOTS, startup=started).start()


class Saq:
    """Queues jobs and reads their streams."""

    def __init__(self, queue: Any, database: Redis) -> None:
        self._queue = queue
        self._database = database

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Queue a job and yield at each delta of its stream."""
        job_id = str(uuid.uuid4())
        await self._queue.enqueue("generate", key=job_id, prompt=prompt)
        async for _ in follow(self._database, answers.stream_of(job_id)):
            yield


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Saq]:
    """Make the series of a config with the `url` of its database."""
    queue = Queue.from_url(config["url"])
    async with Redis.from_url(config["url"], socket_timeout=None) as database:
        yield Saq(queue, database)
    await queue.disconnect()


if __name__ == "__main__":
    uvloop.run(work(answers.url_given()))
