"""Checks of what waits to be told, and whether this worker could sign it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from genqueue.keys import Keys
from genqueue_worker.doctor.finding import Finding
from genqueue_worker.doctor.server import AWAY, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis.asyncio

    from genqueue_worker.settings import WorkerSettings

#: Completions of each partition that are looked into.
SAMPLE: Final = 10


async def check_completions(settings: WorkerSettings) -> list[Finding]:
    """Check the outbox; finds nothing while the data server is away, which another check says."""
    keys = Keys(settings.key_prefix, settings.partitions)
    async with connect(settings.data_url) as client:
        try:
            waiting, whom = await _outbox(client, keys)
        except AWAY:
            return []
    return [completions(waiting, whom, len(settings.webhook_keys))]


async def _outbox(client: redis.asyncio.Redis, keys: Keys) -> tuple[int, list[str]]:
    """Return how many completions wait, and whom some of them are to be told."""
    async with client.pipeline(transaction=False) as pipeline:
        for partition in range(keys.partitions):
            pipeline.zcard(keys.outbox(partition))
            pipeline.zrange(keys.outbox(partition), 0, SAMPLE - 1)
        replies = await pipeline.execute()
    jobs = [job for some in replies[1::2] for job in some]
    async with client.pipeline(transaction=False) as pipeline:
        for job in jobs:
            pipeline.hget(keys.job(job), "on_done")
        whom = await pipeline.execute() if jobs else []
    return sum(replies[::2]), [one for one in whom if one]


def completions(waiting: int, whom: Sequence[str], secrets: int) -> Finding:
    """Judge whether what waits can be told."""
    found = f"{waiting} to be told, "
    if secrets:
        return Finding("completions", "ok", found + f"webhooks are signed with {secrets} secret{'s'[: secrets != 1]}")
    if any("url" in json.loads(one) for one in whom):
        advice = "set GENQUEUE_WEBHOOK_SECRETS on the workers: webhooks wait, and are dropped after a day"
        return Finding("completions", "warn", found + "webhooks among them, and no secret to sign with", advice)
    return Finding("completions", "ok", found + "no secret for webhooks: there are none")
