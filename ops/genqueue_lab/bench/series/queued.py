"""Through genqueue: submitted by the SDK, read by its tail."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from genqueue import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Queued:
    """Submits and follows."""

    def __init__(self, client: AsyncClient, model: str) -> None:
        self._client = client
        self._model = model

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Submit a job and yield at each delta of its stream."""
        job = await self._client.submit(prompt, model=self._model)
        async for event in job.tail():
            if event.type == "delta":
                yield
        if event.type != "completed":
            raise RuntimeError(f"the job ended with {event.type} {dict(event.fields)}")


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Queued]:
    """Make the series of a config with `settings` of the SDK and a `model`."""
    async with AsyncClient(**config["settings"]) as client:
        yield Queued(client, config["model"])
