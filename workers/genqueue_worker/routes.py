"""The providers a worker is configured for, and the routes to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genqueue.errors import SettingsError
from genqueue_worker.model_table import NEEDED
from genqueue_worker.providers.seam import Kind, Route
from genqueue_worker.providers.vertex import vertex_route
from genqueue_worker.settings import GEMINI, NO_KEY, OPENAI

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pydantic import SecretStr

    from genqueue_worker.settings import WorkerSettings


def kinds_set(settings: WorkerSettings) -> tuple[Kind, ...]:
    """Return the kinds of provider that settings speak of, if only by half."""
    spoken: dict[Kind, object] = {
        "gemini": settings.gemini_api_key or settings.gemini_base_url != GEMINI,
        "vertex": settings.vertex_project or settings.vertex_base_url or settings.vertex_credentials,
        "openai": settings.openai_api_key or settings.openai_base_url != OPENAI,
    }
    return tuple(kind for kind, given in spoken.items() if given)


def make_routes(settings: WorkerSettings) -> Mapping[Kind, Route]:
    """Return the route to each provider that is configured: by its key or project, or an address of its own.

    Raises:
        SettingsError: none is, or something is missing.
    """
    makers: dict[Kind, Callable[[WorkerSettings], Route]] = {"gemini": _gemini, "vertex": _vertex, "openai": _openai}
    routes = {kind: makers[kind](settings) for kind in kinds_set(settings)}
    if not routes:
        others = f"or {NEEDED['vertex']} or {NEEDED['openai']} for another provider"
        raise SettingsError([f"{NEEDED['gemini']}: not set, expected the key of the Gemini Developer API, {others}"])
    return routes


def _gemini(settings: WorkerSettings) -> Route:
    key = _key(settings.gemini_api_key) or NO_KEY
    return Route("gemini", settings.gemini_base_url, key, _path(settings.gemini_ca_file), settings.gemini_region)


def _vertex(settings: WorkerSettings) -> Route:
    if not settings.vertex_project:
        given = "BASE_URL" if settings.vertex_base_url else "CREDENTIALS"
        raise SettingsError([f"{NEEDED['vertex']}: not set, expected the project that GENQUEUE_VERTEX_{given} is for"])
    credentials, ca_file = _path(settings.vertex_credentials), _path(settings.vertex_ca_file)
    base_url, location = settings.vertex_base_url, settings.vertex_location
    return vertex_route(settings.vertex_project, location, base_url, credentials, ca_file)


def _openai(settings: WorkerSettings) -> Route:
    key = _key(settings.openai_api_key)
    ca_file = _path(settings.openai_ca_file)
    where, region, spoken = settings.openai_base_url, settings.openai_region, settings.openai_http
    return Route("openai", where, key, ca_file, region, kind="openai", versions=spoken)


def _key(key: SecretStr | None) -> str:
    return key.get_secret_value() if key is not None else ""


def _path(path: Path | None) -> str | None:
    return str(path) if path is not None else None
