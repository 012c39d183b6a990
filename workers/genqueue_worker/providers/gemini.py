"""Gemini over our own connections: the Developer API, and Vertex AI."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Protocol, Self

import httpx

from genqueue_worker.providers.connections import PoolCounters, PoolOptions
from genqueue_worker.providers.endpoint import Call, Endpoints, body_of, warn_cold
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_response
from genqueue_worker.providers.gemini_files import Files
from genqueue_worker.providers.gemini_request import encode_body, model_path
from genqueue_worker.providers.gemini_stream import StreamReader
from genqueue_worker.providers.seam import Chunk, ProviderRequest, Route
from genqueue_worker.providers.vertex import (
    PERMITTED,
    TRIAL_BODY,
    TRIAL_MODEL,
    VERSION,
    encode_vertex_body,
    trial_url,
    vertex_model_path,
)
from genqueue_worker.providers.vertex_tokens import Tokens

#: What every request says. Compressed, small chunks would wait in the server's encoder for more.
_HEADERS: Final = {"content-type": "application/json", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class GeminiOptions:
    """Say which version of the APIs to speak and how to hold connections to them.

    Attributes:
        api_version: the Developer API's.
        trial_model: the model whose tokens are counted to try an access token of Vertex AI.
    """

    api_version: str = "v1beta"
    pool: PoolOptions = field(default_factory=PoolOptions)
    trial_model: str = TRIAL_MODEL


class Credential(Protocol):
    """What requests on a route show."""

    async def headers(self) -> Mapping[str, str]:
        """Return the headers they show; raises ProviderError when there are none to be had."""
        ...

    async def renewed(self, refused: Mapping[str, str], error: ProviderError) -> Mapping[str, str]:
        """Return others than those that were refused with `error`; raises it when there are none."""
        ...

    async def aclose(self) -> None:
        """End what is done in the background."""
        ...


class _Key:
    """An API key."""

    def __init__(self, key: str) -> None:
        self._headers = {"x-goog-api-key": key}

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    async def renewed(self, refused: Mapping[str, str], error: ProviderError) -> Mapping[str, str]:  # noqa: ARG002
        raise error

    async def aclose(self) -> None:
        pass


class GeminiProvider:
    """Stream generations from Gemini; one pool of connections for each route, kept until `aclose`.

    Belongs to one event loop. Nothing is tried again here, but with another access token what one was refused for: who
    calls decides by the error's fields.
    """

    def __init__(self, options: GeminiOptions | None = None, clock: Callable[[], float] = time.time) -> None:
        self._options = options or GeminiOptions()
        self._endpoints = Endpoints(self._options.pool, error_of_response, clock)
        self._credentials: dict[Route, Credential] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; streams on them end with an error."""
        credentials, self._credentials = self._credentials, {}
        for credential in credentials.values():
            await credential.aclose()
        await self._endpoints.aclose()

    async def warm(self, route: Route) -> bool:
        """Open the route's first connections; say whether all of them answered. A failure is logged, not raised."""
        try:
            headers = await self._credential(route).headers()
        except ProviderError as error:
            warn_cold(route, error.message)
            return False
        return await self._endpoints.warm(route, _signed(self._trial(route), headers))

    async def prove(self, route: Route) -> None:
        """Ask for what costs nothing and whoever may generate may ask; raises ProviderError."""
        async with self._answer(self._trial(route), route) as answer:
            await answer.aread()

    def counters(self, route: Route) -> PoolCounters:
        """Return how many connections and streams the route has."""
        return self._endpoints.counters(route)

    async def stream(self, request: ProviderRequest, route: Route) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they arrive; closing the generator early resets the stream at the server.

        Raises:
            ProviderError: see `errors.ProviderError`; `truncated_stream` when the answer ended without a reason,
                `unsupported` for what the route's API does not take.
        """
        reader = StreamReader()
        answering = self._answer(self._generation(request, route), route)
        del request  # a large one would stay in memory until the answer's end
        async with answering as answer:
            async for raw in body_of(answer):
                for chunk in reader.feed(raw):
                    yield chunk
            for chunk in reader.close():
                yield chunk

    async def upload(self, data: bytes, mime_type: str, route: Route) -> str:
        """Upload data by the Files API and return its URI once it may be used; raises ProviderError."""
        return await self._files(route).upload(data, mime_type)

    async def discard(self, uri: str, route: Route) -> None:
        """Delete an uploaded file; raises ProviderError."""
        await self._files(route).discard(uri)

    def _files(self, route: Route) -> Files:
        if route.kind == "vertex":
            message = (
                "Vertex AI takes no uploads; keep inline data below GENQUEUE_GEMINI_INLINE_BYTES, or put it into Cloud "
                "Storage and name its gs:// URI in fileData"
            )
            raise ProviderError("unsupported", message)
        base_url = route.base_url.rstrip("/")
        headers = {**_HEADERS, "x-goog-api-key": route.api_key}
        return Files(self._endpoints.client(route), base_url, self._options.api_version, headers)

    @contextlib.asynccontextmanager
    async def _answer(self, call: Call, route: Route) -> AsyncIterator[httpx.Response]:
        """Send a call with the route's credential and give its answer, which is closed afterwards."""
        async with contextlib.AsyncExitStack() as stack:
            answer = await self._enter(stack, call, route)
            del call  # its body may be large
            yield answer

    async def _enter(self, stack: contextlib.AsyncExitStack, call: Call, route: Route) -> httpx.Response:
        credential = self._credential(route)
        headers = await credential.headers()
        try:
            return await stack.enter_async_context(self._endpoints.answer(route, _signed(call, headers)))
        except ProviderError as error:
            if error.status != httpx.codes.UNAUTHORIZED:
                raise
            headers = await credential.renewed(headers, error)
        return await stack.enter_async_context(self._endpoints.answer(route, _signed(call, headers)))

    def _trial(self, route: Route) -> Call:
        if route.kind == "vertex":
            return Call(trial_url(route, self._options.trial_model), _HEADERS, TRIAL_BODY, good=PERMITTED)
        return Call(f"{self._base_url(route)}/models?pageSize=1", _HEADERS, method="GET")

    def _generation(self, request: ProviderRequest, route: Route) -> Call:
        if route.kind == "vertex":
            path, body = vertex_model_path(request.model, route), encode_vertex_body(request, route)
        else:
            path, body = model_path(request.model), encode_body(request)
        return Call(f"{self._base_url(route)}/{path}:streamGenerateContent?alt=sse", _HEADERS, body)

    def _base_url(self, route: Route) -> str:
        version = VERSION if route.kind == "vertex" else self._options.api_version
        return f"{route.base_url.rstrip('/')}/{version}"

    def _credential(self, route: Route) -> Credential:
        credential = self._credentials.get(route)
        if credential is None:
            credential = self._credentials[route] = _credential_of(route)
        return credential


def _credential_of(route: Route) -> Credential:
    if route.kind != "vertex":
        return _Key(route.api_key)
    # Only where it is needed: google-auth takes a tenth of a second to import.
    from genqueue_worker.providers.vertex_signin import SignIn  # noqa: PLC0415

    return Tokens(SignIn(route), route.name)


def _signed(call: Call, headers: Mapping[str, str]) -> Call:
    return replace(call, headers={**call.headers, **headers})
