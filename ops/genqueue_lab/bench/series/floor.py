"""The floor: our own wire client on our own connections, and no queue."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from genqueue_worker.providers.gemini import GeminiProvider
from genqueue_worker.providers.seam import ProviderRequest, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Floor:
    """Asks the provider as a worker does, and writes nothing anywhere."""

    def __init__(self, provider: GeminiProvider, route: Route, model: str) -> None:
        self._provider = provider
        self._route = route
        self._model = model

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Ask, and yield at each chunk with text."""
        request = ProviderRequest(self._model, [{"role": "user", "parts": [{"text": prompt}]}])
        async with aclosing(self._provider.stream(request, self._route)) as chunks:
            async for chunk in chunks:
                if any(entry.kind == "delta" for entry in chunk.entries):
                    yield


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Floor]:
    """Make the series of a config with the emulator's `url` and `ca_file`, and a `model`."""
    route = Route("emulator", config["url"], "emulator", config["ca_file"])
    async with GeminiProvider() as provider:
        await provider.warm(route)
        yield Floor(provider, route, config["model"])
