"""Checks of the provider: the key, the way there, and whether it lets us in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from genqueue_worker.doctor.finding import Finding
from genqueue_worker.providers.probe import Probe, probe
from genqueue_worker.providers.seam import Route
from genqueue_worker.settings import NO_KEY

if TYPE_CHECKING:
    from genqueue_worker.settings import WorkerSettings

#: Seconds the endpoint has to answer.
PATIENCE: Final = 3.0

#: Answers that mean the key was refused; Gemini says 400 of a key it does not know.
_REFUSED: Final = frozenset({400, 401, 403})


async def check_endpoint(settings: WorkerSettings) -> list[Finding]:
    """Check the provider's key and endpoint."""
    key = settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else ""
    ca_file = str(settings.gemini_ca_file) if settings.gemini_ca_file else None
    route = Route("gemini", settings.gemini_base_url, key or NO_KEY, ca_file)
    try:
        async with asyncio.timeout(PATIENCE + 0.5):
            found = await probe(route, PATIENCE)
    except TimeoutError:
        problem = f"no answer within {PATIENCE:g} s"
        found = Probe(reached=False, status=None, protocol="", seconds=PATIENCE, problem=problem)
    return [endpoint(settings.gemini_base_url, found), api_key(found, is_set=bool(key))]


def endpoint(url: str, found: Probe) -> Finding:
    """Judge the way to the endpoint."""
    if not found.reached:
        advice = "check the network, GENQUEUE_GEMINI_BASE_URL and GENQUEUE_GEMINI_CA_FILE; it must speak HTTP/2"
        return Finding("endpoint", "fail", f"{url}: {found.problem}", advice)
    speed = f"{found.protocol}, {found.seconds * 1000:.0f} ms"
    if not url.lower().startswith("https://"):
        return Finding("endpoint", "warn", f"{url}: {speed}, no TLS", "use https://: the key crosses in the clear")
    if found.status is not None and (found.status >= 500 or found.status in {404, 429}):
        advice = "wait, or check GENQUEUE_GEMINI_BASE_URL"
        return Finding("endpoint", "warn", f"{url}: {speed}, HTTP {found.status}: {found.problem}", advice)
    return Finding("endpoint", "ok", f"{url}: TLS, {speed}")


def api_key(found: Probe, *, is_set: bool) -> Finding:
    """Judge the key."""
    if not is_set:
        return Finding("key", "fail", "not set", "set GENQUEUE_GEMINI_API_KEY (or GEMINI_API_KEY)")
    if found.status in _REFUSED:
        advice = "make a new one at https://aistudio.google.com/apikey and set GENQUEUE_GEMINI_API_KEY"
        return Finding("key", "fail", f"refused (HTTP {found.status}): {found.problem}", advice)
    if found.status is None or found.status >= 300:
        return Finding("key", "warn", "set; whether it is accepted could not be seen", "see the endpoint's row")
    return Finding("key", "ok", "set and accepted")
