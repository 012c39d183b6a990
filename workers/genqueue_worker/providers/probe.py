"""One cheap request, to see whether a route works and what it speaks."""

import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from genqueue_worker.providers.connections import ConnectionPool, PoolOptions
from genqueue_worker.providers.gemini_errors import error_of_response
from genqueue_worker.providers.http2 import ConnectionOptions
from genqueue_worker.providers.seam import Route


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of it.

    Attributes:
        reached: whether the endpoint answered at all, over HTTP/2.
        status: the answer's HTTP status; None when there was none.
        protocol: what the answer came over.
        seconds: from the request to the whole answer, the handshakes included.
        problem: the endpoint's, or the connection's, own words; empty when all is well.
    """

    reached: bool
    status: int | None
    protocol: str
    seconds: float
    problem: str = ""


async def probe(route: Route, timeout: float) -> Probe:
    """List one model over a connection of its own, made as the fleet's connections are; nothing is paid for."""
    began = time.monotonic()
    try:
        answer = await _ask(route, timeout)
    except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
        return Probe(reached=False, status=None, protocol="", seconds=time.monotonic() - began, problem=str(error))
    seconds, status = time.monotonic() - began, answer.status_code
    problem = ""
    if answer.is_error:
        problem = error_of_response(status, answer.headers, answer.content, time.time()).message
    return Probe(reached=True, status=status, protocol=answer.http_version, seconds=seconds, problem=problem)


async def _ask(route: Route, timeout: float) -> httpx.Response:
    url = f"{route.base_url.rstrip('/')}/v1beta/models?pageSize=1"
    headers = {"x-goog-api-key": route.api_key, "accept-encoding": "identity"}
    async with connect(route, timeout) as client:
        return await client.get(url, headers=headers)


def connect(route: Route, timeout: float) -> httpx.AsyncClient:
    """Return a client with one connection to a route, made as the fleet's are; `timeout` bounds each wait, in seconds.

    Raises:
        OSError: the route's certificate cannot be read.
    """
    authority = Path(route.ca_file).read_bytes() if route.ca_file is not None else None
    options = ConnectionOptions(connect_timeout=timeout, read_timeout=timeout, ca_pem=authority)
    transport = ConnectionPool(PoolOptions(options, warm_connections=1, max_connections=1))
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)  # noqa: S113 - the connection keeps time
