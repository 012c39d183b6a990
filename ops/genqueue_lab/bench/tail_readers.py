"""A process of readers for the benchmark: follows many jobs at once and tells how old each event was."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import redis.asyncio
import uvloop

from genqueue import AsyncClient
from genqueue.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from genqueue import AsyncJob


def read(pipe: Connection) -> None:
    """Follow the jobs that come through a pipe, and answer each number that comes with the ages of so many events.

    The loop is uvloop, as under most ASGI servers.
    """
    settings, readers, jobs = pipe.recv()
    uvloop.run(_Readers(pipe, Settings(**settings)).run(readers, jobs))


class _Readers:
    """Follows jobs on one event loop."""

    def __init__(self, pipe: Connection, settings: Settings) -> None:
        self._pipe = pipe
        self._settings = settings
        self._ages: asyncio.Queue[int] = asyncio.Queue()
        self._begun = asyncio.Semaphore(0)

    async def run(self, readers: str, jobs: list[str]) -> None:
        """Read until the pipe ends."""
        async with AsyncClient(self._settings) as client, asyncio.TaskGroup() as group:
            handles = [client.job(job) for job in jobs]
            if readers == "bells":
                for handle in handles:
                    group.create_task(self._tail(handle))
            else:
                group.create_task(self._xread([await handle.stream_key() for handle in handles]))
            for _ in jobs:
                await self._begun.acquire()
            self._pipe.send(("ready", []))
            while True:
                count = await asyncio.to_thread(self._pipe.recv)
                self._pipe.send(("times", [await self._ages.get() for _ in range(count)]))

    async def _tail(self, job: AsyncJob) -> None:
        async for event in job.tail():
            self._note(event.type, event.text)

    async def _xread(self, streams: list[str]) -> None:
        """Read as one would first think of: one blocking XREAD over all streams."""
        last: dict[Any, Any] = dict.fromkeys(streams, "0-0")
        async with redis.asyncio.Redis.from_url(self._settings.data_url, socket_timeout=None) as server:
            while True:
                found: Any = await server.xread(last, block=60_000)
                for stream, entry_id, fields in ((name, *entry) for name, entries in found for entry in entries):
                    last[stream.decode()] = entry_id
                    self._note(fields[b"type"].decode(), fields.get(b"text", b"").decode())

    def _note(self, kind: str, text: str | None) -> None:
        if kind == "queued":
            self._begun.release()
        elif kind == "delta":
            self._ages.put_nowait(time.monotonic_ns() - int(text or 0))
