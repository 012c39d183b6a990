"""The sides of the concurrency benchmark: genqueue, the floor, google-genai called directly, and the textbook."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import httpx2
from google import genai
from google.genai import types
from redis.asyncio import Redis

from genqueue import AsyncClient, AsyncJob
from genqueue.settings import Settings
from genqueue_lab.bench.series.direct import Persistent
from genqueue_lab.bench.series.floor import Floor
from genqueue_lab.bench.series.textbook import series as textbook_series
from genqueue_lab.textbook.app import stream_of
from genqueue_lab.textbook.producer import submit
from genqueue_worker.providers.connections import PoolOptions
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.seam import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from genqueue_lab.bench.load import Series

MODEL: Final = "gemini-2.5-flash"

#: HTTP/2 connections that our own pools may open: enough for any step.
CONNECTIONS: Final = 60

#: Seconds until every stream must have an end that the provider has answered, and between two looks.
PATIENCE: Final = 60.0
LOOK: Final = 0.2

#: Types of event behind which nothing comes.
_ENDS: Final = frozenset({b"completed", b"failed", b"cancelled", b"expired"})

#: Cancels under way at once.
_AT_ONCE: Final = 50


class Alone:
    """Streams that end when nobody reads them, so that each is read."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: list[int] = []

    def follow(self, prompt: str) -> AsyncIterator[object]:
        """Ask, and yield at each delta."""
        return self._series.answer(prompt)

    async def start(self, prompts: Sequence[str]) -> None:
        """Ask, and count deltas."""
        for prompt in prompts:
            task = asyncio.create_task(self._count(prompt))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _count(self, prompt: str) -> None:
        count = 0
        with suppress(Exception):  # whoever asks for what is whole finds too few
            async for _ in self._series.answer(prompt):
                count += 1
            self._counts.append(count)

    async def whole(self, tokens: int) -> int:
        """Return how many had so many deltas."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._counts.count(tokens)

    async def call_off(self) -> None:
        """Leave every stream, which resets it at the provider."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._counts.clear()


@asynccontextmanager
async def floor(config: Mapping[str, Any]) -> AsyncIterator[Alone]:
    """Open the floor; the config has the emulator's `url` and `ca_file`."""
    route = Route("emulator", config["url"], "emulator", config["ca_file"])
    async with GeminiProvider(GeminiOptions(pool=PoolOptions(max_connections=CONNECTIONS))) as provider:
        await provider.warm(route)
        yield Alone(Floor(provider, route, MODEL))


@asynccontextmanager
async def direct(config: Mapping[str, Any]) -> AsyncIterator[Alone]:
    """Open google-genai with one client for all; the config is that of the floor."""
    tls = ssl.create_default_context(cafile=config["ca_file"])
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(http2=True, verify=tls, timeout=60, limits=limits) as connections:
        options = types.HttpOptions(base_url=config["url"], httpx_async_client=connections)
        yield Alone(Persistent(genai.Client(api_key="emulator", http_options=options), MODEL))


class Genqueue:
    """Jobs, most of which are heard by one connection that throws away what it hears."""

    def __init__(self, client: AsyncClient, server: Redis) -> None:
        self._client = client
        self._server = server
        self._watched: list[AsyncJob] = []
        self._jobs: list[AsyncJob] = []

    async def follow(self, prompt: str) -> AsyncIterator[object]:
        """Submit a job and yield at each delta of its tail."""
        job = await self._client.submit(prompt, model=MODEL, share="none")
        self._watched.append(job)
        async for event in job.tail():
            if event.type == "delta":
                yield event
        if event.type != "completed":
            raise RuntimeError(f"the job ended with {event.type} {dict(event.fields)}")

    async def start(self, prompts: Sequence[str]) -> None:
        """Submit jobs."""
        made = await self._client.submit_many([{"contents": prompt} for prompt in prompts], model=MODEL, share="none")
        self._jobs += [job for job in made if isinstance(job, AsyncJob)]

    async def whole(self, tokens: int) -> int:
        """Read every stream as it is on the server, once the worker has ended it."""
        return await _whole(self._server, [await job.stream_key() for job in self._jobs], tokens)

    async def call_off(self) -> None:
        """Cancel every job."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def cancel(job: AsyncJob) -> None:
            async with gate:
                await job.cancel(timeout=30)

        await asyncio.gather(*(cancel(job) for job in (*self._watched, *self._jobs)))
        self._watched.clear()
        self._jobs.clear()


class _Sink(asyncio.Protocol):
    """Takes what comes and forgets it."""


@asynccontextmanager
async def genqueue(config: Mapping[str, Any]) -> AsyncIterator[Genqueue]:
    """Open genqueue; the config has the server's `redis` URL and `port`."""
    settings = Settings.load(data_url=config["redis"], broker_url=config["redis"])
    loop = asyncio.get_running_loop()
    sink, _ = await loop.create_connection(_Sink, "127.0.0.1", config["port"])
    sink.write(f"PSUBSCRIBE {settings.key_prefix}:*bell:*\r\n".encode())
    async with AsyncClient(settings) as client, Redis.from_url(config["redis"], socket_timeout=None) as server:
        yield Genqueue(client, server)
    sink.close()


class Textbook:
    """Celery tasks, some of them read by XREAD."""

    def __init__(self, series: Series, server: Redis) -> None:
        self._series = series
        self._server = server
        self._jobs: list[str] = []

    def follow(self, prompt: str) -> AsyncIterator[object]:
        """Queue a task and yield at each delta of its stream."""
        return self._series.answer(prompt)

    async def start(self, prompts: Sequence[str]) -> None:
        """Queue tasks."""
        self._jobs += [await asyncio.to_thread(submit, prompt) for prompt in prompts]

    async def whole(self, tokens: int) -> int:
        """Read every stream as it is on the server, once the worker has ended it."""
        return await _whole(self._server, [stream_of(job) for job in self._jobs], tokens)

    async def call_off(self) -> None:
        """Forget all: nothing ends a running task of a threads pool but its worker's end."""
        self._jobs.clear()


@asynccontextmanager
async def textbook(config: Mapping[str, Any]) -> AsyncIterator[Textbook]:
    """Open the textbook; the config has the `redis` URL of its database."""
    async with textbook_series({"url": config["redis"]}) as series, Redis.from_url(config["redis"]) as server:
        yield Textbook(series, server)


async def _whole(server: Redis, streams: Sequence[str], tokens: int) -> int:
    """Return how many streams have so many deltas and a good end, once all have one, or too much time has passed."""
    give_up = time.monotonic() + PATIENCE
    while True:
        async with server.pipeline(transaction=False) as pipeline:
            for stream in streams:
                pipeline.xrange(stream)
            kinds = [[fields[b"type"] for _, fields in entries] for entries in await pipeline.execute()]
        if all(one and one[-1] in _ENDS for one in kinds) or time.monotonic() > give_up:
            return sum(one.count(b"delta") == tokens and one[-1] == b"completed" for one in kinds)
        await asyncio.sleep(LOOK)
