"""OpenAI's chat completions, and those of servers that speak as it does, over our own connections."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import httpx

from genqueue_worker.providers.connections import PoolCounters, PoolOptions
from genqueue_worker.providers.endpoint import Call, Endpoints, body_of
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_errors import error_of_response
from genqueue_worker.providers.openai_request import Dialect, encode_body
from genqueue_worker.providers.openai_stream import StreamReader
from genqueue_worker.providers.seam import Chunk, ProviderRequest, Route

#: Why nothing is uploaded.
_NO_FILES: Final = (
    "An OpenAI-compatible API takes no files by address; send at most what fits in a request inline, or ask a Gemini "
    "model on the Developer API"
)

#: Statuses by which a server is reached: some have no list of models.
_REACHED: Final = frozenset({200, 404, 405})

#: Seconds a body may take to end behind its last event.
_GRACE: Final = 0.5


class OpenAIProvider:
    """Stream chat completions; one pool of connections for each route, kept until `aclose`.

    Belongs to one event loop. A route's `base_url` ends where `/chat/completions` begins. A request that a server
    refuses because of how a field is named is sent again, named otherwise (`Dialect`); nothing else is tried again.
    """

    def __init__(self, options: PoolOptions | None = None, clock: Callable[[], float] = time.time) -> None:
        self._endpoints = Endpoints(options or PoolOptions(), error_of_response, clock)
        self._dialects: dict[Route, Dialect] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; streams on them end with an error."""
        await self._endpoints.aclose()

    async def warm(self, route: Route) -> bool:
        """Open the route's first connections; say whether all of them answered. A failure is logged, not raised."""
        return await self._endpoints.warm(route, replace(_trial(route), good=_REACHED))

    async def prove(self, route: Route) -> None:
        """Ask for the list of models, which any key in force may; raises ProviderError."""
        async with self._endpoints.answer(route, _trial(route)) as answer:
            await answer.aread()

    def counters(self, route: Route) -> PoolCounters:
        """Return how many connections and streams the route has."""
        return self._endpoints.counters(route)

    async def stream(self, request: ProviderRequest, route: Route) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they arrive; closing the generator early resets the stream at the server.

        Raises:
            ProviderError: see `errors.ProviderError`; `unsupported` for what cannot be said, before anything is sent;
                `truncated_stream` when the answer ended without a reason.
        """
        reader = StreamReader()
        answering = self._answer(request, route)
        del request  # a large one would stay in memory until the answer's end
        async with answering as answer:
            body = aiter(body_of(answer))
            try:
                async for raw in body:
                    for chunk in reader.feed(raw):
                        yield chunk
                    if reader.done:
                        await _drain(body)
                        break
            except httpx.RequestError:
                if not reader.complete:  # many a server cuts the body behind the last choice
                    raise
            for chunk in reader.close():
                yield chunk

    async def upload(self, data: bytes, mime_type: str, route: Route) -> str:
        """Raise ProviderError `unsupported`: there is nothing a request could name by a URI."""
        del data, mime_type, route
        raise ProviderError("unsupported", _NO_FILES)

    async def discard(self, uri: str, route: Route) -> None:
        """Raise ProviderError `unsupported`: nothing was uploaded."""
        del uri, route
        raise ProviderError("unsupported", _NO_FILES)

    @contextlib.asynccontextmanager
    async def _answer(self, request: ProviderRequest, route: Route) -> AsyncIterator[httpx.Response]:
        """Send the request in the words the server knows and give its answer; what those are is kept for the next."""
        url, headers = f"{route.base_url.rstrip('/')}/chat/completions", _headers(route)
        tried = [self._dialects.get(route) or Dialect.of(route.base_url)]
        async with contextlib.AsyncExitStack() as stack:
            while True:
                answering = self._endpoints.answer(route, Call(url, headers, encode_body(request, tried[-1])))
                try:
                    answer = await stack.enter_async_context(answering)
                    break
                except ProviderError as refusal:
                    other = tried[-1].after(refusal)
                    if other in tried:
                        raise
                    tried.append(other)
            del request
            self._dialects[route] = tried[-1]
            yield answer


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read the end of a body that has said all, so that its connection may serve again; nothing of it matters."""
    with contextlib.suppress(TimeoutError, httpx.RequestError):
        async with asyncio.timeout(_GRACE):
            async for _ in body:
                pass


def _trial(route: Route) -> Call:
    return Call(f"{route.base_url.rstrip('/')}/models", _headers(route), method="GET")


def _headers(route: Route) -> dict[str, str]:
    # Compressed, small chunks would wait in the server's encoder for more.
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    return {**headers, "authorization": f"Bearer {route.api_key}"} if route.api_key else headers
