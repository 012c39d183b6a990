"""The Gemini Developer API over our own connections."""

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from genqueue_worker.providers.connections import ConnectionPool, PoolCounters, PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_response, error_of_transport
from genqueue_worker.providers.gemini_files import Files
from genqueue_worker.providers.gemini_request import encode_body, model_path
from genqueue_worker.providers.gemini_stream import StreamReader
from genqueue_worker.providers.seam import Chunk, ProviderRequest, Route

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GeminiOptions:
    """Say which version of the API to speak and how to hold connections to it."""

    api_version: str = "v1beta"
    pool: PoolOptions = field(default_factory=PoolOptions)


class GeminiProvider:
    """Stream generations from Gemini; one pool of connections for each route, kept until `aclose`.

    Belongs to one event loop. Nothing is tried again here: who calls decides by the error's fields.
    """

    def __init__(self, options: GeminiOptions | None = None, clock: Callable[[], float] = time.time) -> None:
        self._options = options or GeminiOptions()
        self._clock = clock
        self._endpoints: dict[Route, _Endpoint] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; streams on them end with an error."""
        endpoints, self._endpoints = self._endpoints, {}
        for endpoint in endpoints.values():
            await endpoint.client.aclose()

    async def warm(self, route: Route) -> bool:
        """Open the route's first connections; say whether all of them answered. A failure is logged, not raised."""
        endpoint = self._endpoint(route)
        url = f"{endpoint.base_url}/models?pageSize=1"
        answers = await endpoint.pool.warm(lambda: endpoint.client.build_request("GET", url, headers=_headers(route)))
        problems = [str(answer) for answer in answers if isinstance(answer, httpx.TransportError)]
        problems += [f"HTTP {a.status_code}" for a in answers if isinstance(a, httpx.Response) and a.is_error]
        for problem in problems:
            logger.warning(
                "provider.warm_failed route=%s error=%s; check the route's address, certificate and key: "
                "its first requests will find the same",
                route.name,
                problem,
            )
        return not problems

    async def prove(self, route: Route) -> None:
        """Ask for one model of the list, which any key in force may; raises ProviderError."""
        endpoint = self._endpoint(route)
        url = f"{endpoint.base_url}/models?pageSize=1"
        with _provider_errors(route):
            answer = await endpoint.client.get(url, headers=_headers(route))
            if answer.status_code != httpx.codes.OK:
                raise error_of_response(answer.status_code, answer.headers, answer.content, self._clock())

    def counters(self, route: Route) -> PoolCounters:
        """Return how many connections and streams the route has."""
        return self._endpoint(route).pool.counters()

    async def stream(self, request: ProviderRequest, route: Route) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they arrive; closing the generator early resets the stream at the server.

        Raises:
            ProviderError: see `errors.ProviderError`; `truncated_stream` when the answer ended without a reason.
        """
        reader = StreamReader()
        answering = self._answer(request, route)
        del request  # a large one would stay in memory until the answer's end
        async with answering as answer:
            async for raw in answer.aiter_bytes():
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
        base_url = route.base_url.rstrip("/")
        return Files(self._endpoint(route).client, base_url, self._options.api_version, _headers(route))

    @contextlib.asynccontextmanager
    async def _answer(self, request: ProviderRequest, route: Route) -> AsyncIterator[httpx.Response]:
        """Send the request and give its answer, which is closed afterwards; whatever goes wrong is a ProviderError."""
        endpoint = self._endpoint(route)
        url = f"{endpoint.base_url}/{model_path(request.model)}:streamGenerateContent?alt=sse"
        sent = endpoint.client.build_request("POST", url, content=encode_body(request), headers=_headers(route))
        del request
        with _provider_errors(route):
            async with contextlib.aclosing(await endpoint.client.send(sent, stream=True)) as answer:
                sent = answer.request = httpx.Request("POST", url)  # without the body: see `stream`
                if answer.status_code != httpx.codes.OK:
                    raise error_of_response(answer.status_code, answer.headers, await answer.aread(), self._clock())
                yield answer

    def _endpoint(self, route: Route) -> "_Endpoint":
        endpoint = self._endpoints.get(route)
        if endpoint is None:
            endpoint = self._endpoints[route] = _open_endpoint(route, self._options)
        return endpoint


@dataclass(frozen=True, slots=True)
class _Endpoint:
    base_url: str
    pool: ConnectionPool
    client: httpx.AsyncClient


def _open_endpoint(route: Route, options: GeminiOptions) -> _Endpoint:
    connection = options.pool.connection
    if route.ca_file is not None:
        connection = replace(connection, ca_pem=Path(route.ca_file).read_bytes())
    pool = ConnectionPool(replace(options.pool, connection=connection))
    client = httpx.AsyncClient(transport=pool, timeout=None, trust_env=False)  # noqa: S113 - the connections keep time
    return _Endpoint(f"{route.base_url.rstrip('/')}/{options.api_version}", pool, client)


def _headers(route: Route) -> dict[str, str]:
    # Compressed, small chunks would wait in the server's encoder for more.
    return {"x-goog-api-key": route.api_key, "content-type": "application/json", "accept-encoding": "identity"}


@contextlib.contextmanager
def _provider_errors(route: Route) -> Iterator[None]:
    """Turn what goes wrong into ProviderErrors, without the route's key."""
    try:
        yield
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise error_of_transport(error) from error
    except ProviderError as error:
        if route.api_key and route.api_key in error.message:
            raise _without(route.api_key, error) from None
        raise


def _without(secret: str, error: ProviderError) -> ProviderError:
    message = error.message.replace(secret, "[api key]")
    return ProviderError(error.code, message, error.status, error.retryable, error.retry_after, error.doubts_key)
