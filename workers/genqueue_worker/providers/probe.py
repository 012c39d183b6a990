"""One cheap request, to see whether a route works and what it speaks."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import ConnectionPool, PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_response
from genqueue_worker.providers.openai_errors import error_of_response as openai_error
from genqueue_worker.providers.seam import Route
from genqueue_worker.providers.vertex import TRIAL_BODY, trial_url
from genqueue_worker.providers.vertex_tokens import in_thread

_JSON: Final = {"content-type": "application/json", "accept-encoding": "identity"}


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
    """Ask for next to nothing over a connection of its own, made as the fleet's are; nothing is paid for."""
    unsigned = ""
    headers: Mapping[str, str] = {}
    if route.kind == "vertex":
        try:
            headers = await _signed_in(route, timeout * 2 / 3)
        except ProviderError as error:  # the endpoint is asked all the same, whether it is there
            unsigned = error.message
    began = time.monotonic()
    try:
        answer = await _ask(route, timeout, headers)
    except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
        return Probe(reached=False, status=None, protocol="", seconds=time.monotonic() - began, problem=str(error))
    seconds, status = time.monotonic() - began, answer.status_code
    problem = ""
    if answer.is_error:
        refused = openai_error if route.kind == "openai" else error_of_response
        problem = unsigned or refused(status, answer.headers, answer.content, time.time()).message
    return Probe(reached=True, status=status, protocol=answer.http_version, seconds=seconds, problem=problem)


async def _signed_in(route: Route, timeout: float) -> Mapping[str, str]:
    """Return the headers that let us into Vertex AI; raises ProviderError."""
    # Only where it is needed: google-auth takes a tenth of a second to import.
    from genqueue_worker.providers.vertex_signin import NO_CREDENTIALS, SignIn  # noqa: PLC0415

    try:
        async with asyncio.timeout(timeout):
            token = await in_thread(SignIn(route))
    except TimeoutError:
        message = f"no access token for Vertex AI within {timeout:g} s; {NO_CREDENTIALS}"
        raise ProviderError("token_unavailable", message, retryable=True) from None
    return token.headers


async def _ask(route: Route, timeout: float, signed: Mapping[str, str]) -> httpx.Response:
    url, headers = f"{route.base_url.rstrip('/')}/v1beta/models?pageSize=1", {"x-goog-api-key": route.api_key}
    if route.kind == "openai":
        url = f"{route.base_url.rstrip('/')}/models"
        headers = {"authorization": f"Bearer {route.api_key}"} if route.api_key else {}
    async with connect(route, timeout) as client:
        if route.kind == "vertex":
            return await client.post(trial_url(route), content=TRIAL_BODY, headers={**_JSON, **signed})
        return await client.get(url, headers={"accept-encoding": "identity", **headers})


def connect(route: Route, timeout: float) -> httpx.AsyncClient:
    """Return a client with one connection to a route, made as the fleet's are; `timeout` bounds each wait, in seconds.

    Raises:
        OSError: the route's certificate cannot be read.
    """
    authority = Path(route.ca_file).read_bytes() if route.ca_file is not None else None
    options = ConnectionOptions(timeout, timeout, ca_pem=authority, versions=route.versions)
    transport = ConnectionPool(PoolOptions(options, warm_connections=1, max_connections=1))
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)  # noqa: S113 - the connection keeps time
