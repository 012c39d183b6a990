"""How deep each lane is and how long its oldest flight waits, by the ledger, for /metrics."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from genqueue.connections import connection_options
from genqueue.keys import Keys
from genqueue.lanes import LANES, queues_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.lanes import Lane
    from genqueue_worker.settings import WorkerSettings

#: Seconds for which one answer does, however many scrape.
FRESH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sounding:
    """One lane: flights that are queued, and for how many seconds the oldest has been."""

    depth: int
    oldest: float


class Soundings:
    """Reads them on a connection of its own, so that it costs the loop nothing. For one thread at a time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._keys = Keys(settings.key_prefix, settings.partitions)
        options = connection_options(settings)
        self._client = redis.Redis.from_url(settings.data_url, retry=Retry(NoBackoff(), 0), **options)
        self._read: Mapping[Lane, Sounding] | None = None
        self._at = 0.0

    def read(self) -> Mapping[Lane, Sounding] | None:
        """Return every lane; None while the data server is away."""
        if self._read is None or time.monotonic() - self._at > FRESH:
            self._read = None
            with suppress(RedisError, OSError):
                self._read = {lane: self._sound(lane) for lane in LANES}
            self._at = time.monotonic()
        return self._read

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _sound(self, lane: Lane) -> Sounding:
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for partition in range(self._keys.partitions):
                for queue in queues_of(lane):
                    key = self._keys.sent(partition, queue)
                    pipeline.zcard(key)
                    pipeline.zrange(key, 0, 0, withscores=True)
            (seconds, microseconds), *replies = pipeline.execute()
        stamps = [first[0][1] for first in replies[1::2] if first]
        waited = seconds + microseconds / 1e6 - min(stamps) / 1000 if stamps else 0.0
        return Sounding(sum(replies[::2]), max(0.0, waited))
