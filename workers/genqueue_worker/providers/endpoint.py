"""What every provider shares: a pool of connections for each route, and requests over it that fail in one way."""

import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import httpx

from genqueue_worker.providers.connections import ConnectionPool, PoolCounters, PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_transport
from genqueue_worker.providers.seam import Route

logger = logging.getLogger(__name__)

#: Headers of every request.
_EVERY: Final = {"accept": "*/*", "user-agent": f"genqueue httpx/{httpx.__version__}"}

#: Headers that hold what nobody may read in a message.
_SECRET_HEADERS: Final = ("x-goog-api-key", "authorization")

#: Turns an answer other than 200 into an error: its status, headers and body, and the time in Unix seconds.
ErrorOfResponse = Callable[[int, Mapping[str, str], bytes, float], ProviderError]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: where it goes, the headers and body it has, and the statuses of a good answer."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    method: str = "POST"
    good: frozenset[int] = frozenset({200})


@dataclass(frozen=True, slots=True)
class _Endpoint:
    pool: ConnectionPool
    client: httpx.AsyncClient


class Endpoints:
    """Hold a pool and a client for each route until `aclose`. Belongs to one event loop."""

    def __init__(
        self, options: PoolOptions, error_of_response: ErrorOfResponse, clock: Callable[[], float] = time.time
    ) -> None:
        self._options = options
        self._error_of_response = error_of_response
        self._clock = clock
        self._endpoints: dict[Route, _Endpoint] = {}

    async def aclose(self) -> None:
        """Close all connections; streams on them end with an error."""
        endpoints, self._endpoints = self._endpoints, {}
        for endpoint in endpoints.values():
            await endpoint.client.aclose()

    def client(self, route: Route) -> httpx.AsyncClient:
        """Return the route's client, for what needs more than `answer`; whoever uses it maps its errors."""
        return self._endpoint(route).client

    def counters(self, route: Route) -> PoolCounters:
        """Return how many connections and streams the route has. Any thread may ask: nothing is opened for it."""
        endpoint = self._endpoints.get(route)
        return endpoint.pool.counters() if endpoint is not None else PoolCounters(0, 0, 0)

    async def warm(self, route: Route, call: Call) -> bool:
        """Open the route's first connections; say whether all of them answered. A failure is logged, not raised."""
        endpoint = self._endpoint(route)
        answers = await endpoint.pool.warm(lambda: _request(call))
        problems = [str(answer) for answer in answers if isinstance(answer, httpx.TransportError)]
        statuses = [answer.status_code for answer in answers if isinstance(answer, httpx.Response)]
        problems += [f"HTTP {status}" for status in statuses if status not in call.good]
        for problem in problems:
            warn_cold(route, problem)
        return not problems

    @contextlib.asynccontextmanager
    async def answer(self, route: Route, call: Call) -> AsyncIterator[httpx.Response]:
        """Send a call and give its answer with the body yet to be read, closed when the block ends.

        The call's body is let go as soon as the answer begins.

        Raises:
            ProviderError: the answer is none, or not a good one; or reading it, in the block, failed.
        """
        pool = self._endpoint(route).pool
        with provider_errors(call.headers):
            sent, good = _request(call), call.good
            del call
            # Not through a client: all it does beside is a third of what a short answer costs.
            async with contextlib.aclosing(await pool.handle_async_request(sent)) as answer:
                del sent  # a large body would stay until the answer's end
                if answer.status_code not in good:
                    body = await answer.aread()
                    raise self._error_of_response(answer.status_code, answer.headers, body, self._clock())
                yield answer

    def _endpoint(self, route: Route) -> _Endpoint:
        endpoint = self._endpoints.get(route)
        if endpoint is None:
            endpoint = self._endpoints[route] = _open_endpoint(route, self._options)
        return endpoint


def warn_cold(route: Route, problem: str) -> None:
    """Log why a route's connections were not warmed, and what to do."""
    logger.warning(
        "provider.warm_failed route=%s error=%s; check the route's address, certificate and key: "
        "its first requests will find the same",
        route.name,
        problem,
    )


def _open_endpoint(route: Route, options: PoolOptions) -> _Endpoint:
    connection = replace(options.connection, versions=route.versions)
    if route.ca_file is not None:
        connection = replace(connection, ca_pem=Path(route.ca_file).read_bytes())
    pool = ConnectionPool(replace(options, connection=connection))
    client = httpx.AsyncClient(transport=pool, timeout=None, trust_env=False)  # noqa: S113 - the connections keep time
    return _Endpoint(pool, client)


def _request(call: Call) -> httpx.Request:
    headers = {**_EVERY, **call.headers}
    return httpx.Request(call.method, _parsed(call.url), headers=headers, content=call.body or None)


@functools.lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def body_of(answer: httpx.Response) -> AsyncIterable[bytes]:
    """Return an answer's body as it comes; through httpx, which counts and decodes it, only when it is encoded."""
    encoded = any(name.lower() == b"content-encoding" for name, _ in answer.headers.raw)
    return answer.stream if isinstance(answer.stream, httpx.AsyncByteStream) and not encoded else answer.aiter_bytes()


@contextlib.contextmanager
def provider_errors(headers: Mapping[str, str]) -> Iterator[None]:
    """Turn what goes wrong into ProviderErrors, without the secrets of a request's headers."""
    try:
        yield
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise error_of_transport(error) from error
    except ProviderError as error:
        secrets = _secrets(headers)
        if any(secret in error.message for secret in secrets):
            raise _without(secrets, error) from None
        raise


def _secrets(headers: Mapping[str, str]) -> list[str]:
    values = (headers.get(name, "").removeprefix("Bearer ") for name in _SECRET_HEADERS)
    return [value for value in values if value]


def _without(secrets: list[str], error: ProviderError) -> ProviderError:
    message = error.message
    for secret in secrets:
        message = message.replace(secret, "[api key]")
    return ProviderError(error.code, message, error.status, error.retryable, error.retry_after, error.doubts_key)
