"""Checks of each provider: the key, the way there, and whether it lets us in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from genqueue.errors import SettingsError
from genqueue_worker.doctor.finding import Finding
from genqueue_worker.model_file import read_table
from genqueue_worker.providers.errors import REFUSED_STATUSES
from genqueue_worker.providers.probe import Probe, probe
from genqueue_worker.providers.seam import Kind, Route
from genqueue_worker.routes import kinds_set, make_routes
from genqueue_worker.settings import GEMINI, NO_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from genqueue_worker.settings import WorkerSettings

#: Seconds the endpoint has to answer.
PATIENCE: Final = 3.0


#: Where a key is set, and what to do about one that is refused, by the kind of provider.
_KEYS: Final[Mapping[Kind, tuple[str, str]]] = {
    "gemini": (
        "set GENQUEUE_GEMINI_API_KEY (or GEMINI_API_KEY)",
        "make a new one at https://aistudio.google.com/apikey and set GENQUEUE_GEMINI_API_KEY",
    ),
    "vertex": (
        "set GENQUEUE_VERTEX_CREDENTIALS, or make Application Default Credentials",
        "see that the account has the role Vertex AI User in GENQUEUE_VERTEX_PROJECT, where that API is enabled",
    ),
    "openai": (
        "set GENQUEUE_OPENAI_API_KEY (or OPENAI_API_KEY), unless the server wants none",
        "make a new one and set GENQUEUE_OPENAI_API_KEY",
    ),
}


async def check_endpoint(settings: WorkerSettings) -> list[Finding]:
    """Check the key and endpoint of each provider, and the model table."""
    try:
        routes: Mapping[Kind, Route] = make_routes(settings)
    except SettingsError as error:
        if kinds_set(settings):
            return [Finding("key", "fail", problem, "correct it") for problem in error.problems]
        routes = {"gemini": Route("gemini", GEMINI, NO_KEY)}
    groups = await asyncio.gather(*(check_route(route) for route in routes.values()))
    return [*(finding for group in groups for finding in group), models(settings, routes)]


async def check_route(route: Route) -> list[Finding]:
    """Check one provider's endpoint and key."""
    try:
        async with asyncio.timeout(PATIENCE + 0.5):
            found = await probe(route, PATIENCE)
    except TimeoutError:
        problem = f"no answer within {PATIENCE:g} s"
        found = Probe(reached=False, status=None, protocol="", seconds=PATIENCE, problem=problem)
    is_set = route.kind == "vertex" or route.api_key not in {"", NO_KEY}
    return [endpoint(route.base_url, found, route.kind), api_key(found, is_set=is_set, kind=route.kind)]


def models(settings: WorkerSettings, configured: Collection[Kind]) -> Finding:
    """Judge the model table."""
    try:
        table = read_table(settings.models_file, configured)
    except SettingsError as error:
        return Finding("models", "fail", "; ".join(error.problems), "correct the file: no worker starts with it")
    entries = table.entries
    sizes = f"{len(entries.models)} patterns, {len(entries.aliases)} aliases, {len(entries.fallbacks)} with fallbacks"
    return Finding("models", "ok", f"{settings.models_file or 'built in'}: {sizes}; served by {', '.join(configured)}")


def _named(check: str, kind: Kind) -> str:
    return check if kind == "gemini" else f"{kind} {check}"


def endpoint(url: str, found: Probe, kind: Kind = "gemini") -> Finding:
    """Judge the way to the endpoint."""
    check, variable = _named("endpoint", kind), f"GENQUEUE_{kind.upper()}"
    if not found.reached:
        spoken = "" if kind == "openai" else "; it must speak HTTP/2"
        advice = f"check the network, {variable}_BASE_URL and {variable}_CA_FILE{spoken}"
        return Finding(check, "fail", f"{url}: {found.problem}", advice)
    speed = f"{found.protocol}, {found.seconds * 1000:.0f} ms"
    if not url.lower().startswith("https://"):
        return Finding(check, "warn", f"{url}: {speed}, no TLS", "use https://: the key crosses in the clear")
    if found.status is not None and (found.status >= 500 or found.status in {404, 429}):
        advice = f"wait, or check {variable}_BASE_URL"
        return Finding(check, "warn", f"{url}: {speed}, HTTP {found.status}: {found.problem}", advice)
    return Finding(check, "ok", f"{url}: TLS, {speed}")


def api_key(found: Probe, *, is_set: bool, kind: Kind = "gemini") -> Finding:
    """Judge the key."""
    check, (setting, renewal) = _named("key", kind), _KEYS[kind]
    if found.status in REFUSED_STATUSES and (is_set or kind == "openai"):
        return Finding(check, "fail", f"refused (HTTP {found.status}): {found.problem}", renewal if is_set else setting)
    if not is_set and kind != "openai":
        return Finding(check, "fail", "not set", setting)
    if found.status is None or found.status >= 300:
        return Finding(check, "warn", "set; whether it is accepted could not be seen", "see the endpoint's row")
    return Finding(check, "ok", "set and accepted" if is_set else "none is set, and none is wanted")
