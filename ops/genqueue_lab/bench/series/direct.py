"""Without a queue: google-genai, as its users call it, over HTTP/2."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
from google import genai
from google.genai import types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Persistent:
    """Asks through one client for all requests."""

    def __init__(self, client: genai.Client, model: str) -> None:
        self._client = client
        self._model = model

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Ask, and yield at each chunk with text."""
        async for chunk in await self._client.aio.models.generate_content_stream(model=self._model, contents=prompt):
            if chunk.text:
                yield


class Anew:
    """Makes a new client for each request, and so a new connection."""

    def __init__(self, config: Mapping[str, Any], tls: ssl.SSLContext) -> None:
        self._config = config
        self._tls = tls

    async def answer(self, prompt: str) -> AsyncIterator[None]:
        """Connect, ask, and yield at each chunk with text."""
        async with httpx2.AsyncClient(http2=True, verify=self._tls, timeout=60) as connections:
            async for _ in Persistent(_client(self._config, connections), self._config["model"]).answer(prompt):
                yield


def _client(config: Mapping[str, Any], connections: httpx2.AsyncClient) -> genai.Client:
    options = types.HttpOptions(base_url=config["url"], httpx_async_client=connections)
    return genai.Client(api_key="emulator", http_options=options)


@asynccontextmanager
async def series(config: Mapping[str, Any]) -> AsyncIterator[Persistent | Anew]:
    """Make the series of a config with the emulator's `url` and `ca_file`, a `model`, and whether to connect `anew`."""
    tls = ssl.create_default_context(cafile=config["ca_file"])
    if config["anew"]:
        yield Anew(config, tls)
        return
    async with httpx2.AsyncClient(http2=True, verify=tls, timeout=60) as connections:
        yield Persistent(_client(config, connections), config["model"])
