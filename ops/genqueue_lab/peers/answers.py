"""What every peer's task does: ask google-genai over HTTP/2, and append each chunk to a Redis stream.

Runs in the environments of the peers, which have google-genai, httpx2 and redis-py, and nothing of ours.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google import genai

MODEL: Final = "gemini-2.5-flash"

#: Answers that one worker streams at once.
SLOTS: Final = 100

#: Seconds a finished stream is kept, and that Gemini may be silent.
STREAM_TTL: Final = 3600
TIMEOUT: Final = 60


def stream_of(job_id: str) -> str:
    """Return the key of a job's events."""
    return f"peer:events:{job_id}"


class Answers:
    """Answers prompts; one client of Gemini and one of Redis for a whole worker."""

    def __init__(self, gemini: genai.Client, database: Redis) -> None:
        self._gemini = gemini
        self._database = database

    async def write(self, job_id: str, prompt: str) -> None:
        """Stream the answer to a prompt into the job's stream, up to its end."""
        try:
            async for chunk in await self._gemini.aio.models.generate_content_stream(model=MODEL, contents=prompt):
                if chunk.text:
                    await self._append(job_id, "delta", text=chunk.text)
        except Exception as error:
            await self._append(job_id, "failed", error=str(error))
            raise
        await self._append(job_id, "completed")
        await self._database.expire(stream_of(job_id), STREAM_TTL)

    async def _append(self, job_id: str, kind: str, **fields: str) -> None:
        entry: dict[Any, Any] = {"type": kind, **fields}
        await self._database.xadd(stream_of(job_id), entry)


@asynccontextmanager
async def answers(url: str) -> AsyncIterator[Answers]:
    """Make what answers, over a Redis URL; google-genai reads its own variables."""
    # Workers alone need these, which take seconds to import.
    import httpx2  # noqa: PLC0415
    from google import genai  # noqa: PLC0415
    from google.genai import types  # noqa: PLC0415

    # google-genai takes aiohttp and HTTP/1.1 when it is not given a client, and one peer brings aiohttp.
    async with (
        httpx2.AsyncClient(http2=True, verify=ssl.create_default_context(), timeout=TIMEOUT) as connections,
        Redis.from_url(url) as database,
    ):
        client = genai.Client(http_options=types.HttpOptions(httpx_async_client=connections))
        yield Answers(client, database)


def ready() -> None:
    """Tell whoever started this worker that it takes jobs."""
    print("ready", flush=True)


def url_given() -> str:
    """Return the Redis URL that a worker was started with."""
    return sys.argv[1]
