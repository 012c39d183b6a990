"""Through the textbook set-up: a Celery task, and one blocking XREAD for each reader."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis

from genqueue_lab.peers.reading import follow
from genqueue_lab.textbook.app import app, stream_of
from genqueue_lab.textbook.producer import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

#: Threads that publish, as those of a threaded web server.
PUBLISHERS: Final = 4


class Textbook:
    """Queues tasks from threads, as Celery publishes in no other way, and reads their streams."""

    def __init__(self, database: Redis, publishers: ThreadPoolExecutor) -> None:
        self._database = database
        self._publishers = publishers

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Queue a task and yield at each delta of its stream."""
        job_id = await asyncio.get_running_loop().run_in_executor(self._publishers, submit, prompt)
        async for _ in follow(self._database, stream_of(job_id)):
            yield


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Textbook]:
    """Make the series of a config with the `url` of its database."""
    app.conf.broker_url = config["url"]
    with ThreadPoolExecutor(PUBLISHERS) as publishers:
        async with Redis.from_url(config["url"], socket_timeout=None) as database:
            yield Textbook(database, publishers)
