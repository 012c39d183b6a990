"""Arq: `python -m genqueue_lab.peers.arq REDIS_URL` is its worker.

It polls its queue, by default twice a second: here a hundred times. No results are kept, as nobody asks for any.
"""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import arq  # type: ignore[import-not-found] # in an environment of its own, as all it needs
import uvloop
from arq.connections import RedisSettings  # type: ignore[import-not-found]
from arq.worker import Worker  # type: ignore[import-not-found]
from redis.asyncio import Redis

from genqueue_lab.peers import answers
from genqueue_lab.peers.reading import follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

#: Seconds between two looks into the queue.
POLL: Final = 0.01


async def generate(ctx: dict[str, Any], prompt: str) -> None:
    """Answer a prompt."""
    await ctx["answers"].write(ctx["job_id"], prompt)


async def work(url: str) -> None:
    """Run a worker."""
    async with answers.answers(url) as found:
        worker = Worker(
            functions=[generate],
            redis_settings=RedisSettings.from_dsn(url),
            ctx={"answers": found},
            on_startup=_started,
            max_jobs=answers.SLOTS,
            poll_delay=POLL,
            keep_result=0,
        )
        await worker.async_run()


async def _started(_: dict[str, Any]) -> None:
    answers.ready()


class Arq:
    """Queues jobs and reads their streams."""

    def __init__(self, queue: Any, database: Redis) -> None:
        self._queue = queue
        self._database = database

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Queue a job and yield at each delta of its stream."""
        job_id = str(uuid.uuid4())
        await self._queue.enqueue_job("generate", prompt, _job_id=job_id)
        async for _ in follow(self._database, answers.stream_of(job_id)):
            yield


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Arq]:
    """Make the series of a config with the `url` of its database."""
    queue = await arq.create_pool(RedisSettings.from_dsn(config["url"]))
    async with Redis.from_url(config["url"], socket_timeout=None) as database:
        yield Arq(queue, database)
    await queue.aclose()


if __name__ == "__main__":
    uvloop.run(work(answers.url_given()))
