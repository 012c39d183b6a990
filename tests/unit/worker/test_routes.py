"""Which providers settings configure, and the routes to them."""

import os

import pytest

from genqueue.errors import SettingsError
from genqueue_worker.routes import make_routes
from genqueue_worker.settings import NO_KEY, WorkerSettings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith(("GENQUEUE_", "GEMINI_", "OPENAI_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({"gemini_api_key": "k"}, ["gemini"]),
        ({"gemini_base_url": "https://proxy"}, ["gemini"]),
        ({"vertex_project": "p"}, ["vertex"]),
        ({"openai_api_key": "k"}, ["openai"]),
        ({"openai_base_url": "https://vllm/v1"}, ["openai"]),
        ({"openai_api_key": "k", "vertex_project": "p", "gemini_api_key": "k"}, ["gemini", "vertex", "openai"]),
    ],
)
def test_a_provider_is_configured_by_its_key_project_or_address(given, kinds):
    """Several at once."""
    routes = make_routes(WorkerSettings.load(**given))
    assert list(routes) == kinds
    assert [(route.name, route.kind) for route in routes.values()] == [(kind, kind) for kind in kinds]


def test_the_vendors_own_variables_are_read(monkeypatch):
    """As their packages read them."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://llm.example/v1")
    route = make_routes(WorkerSettings.load())["openai"]
    assert (route.api_key, route.base_url) == ("sk-1", "https://llm.example/v1")
    assert "sk-1" not in repr(route)


def test_a_proxy_may_bring_the_key():
    """Gemini wants one all the same, and is told so by its name; others get none."""
    routes = make_routes(WorkerSettings.load(gemini_base_url="https://a", openai_base_url="https://b/v1"))
    assert (routes["gemini"].api_key, routes["openai"].api_key) == (NO_KEY, "")


@pytest.mark.parametrize(
    ("location", "url", "region"),
    [
        ("global", "https://aiplatform.googleapis.com", None),
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com", "europe-west4"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com", "eu"),
    ],
)
def test_vertex_is_where_its_location_says(location, url, region):
    """The global endpoint works anywhere."""
    route = make_routes(WorkerSettings.load(vertex_project="p", vertex_location=location))["vertex"]
    assert (route.base_url, route.region, route.project, route.location) == (url, region, "p", location)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "GENQUEUE_GEMINI_API_KEY: not set"),
        ({"vertex_base_url": "https://x"}, "GENQUEUE_VERTEX_PROJECT: not set.* GENQUEUE_VERTEX_BASE_URL is for"),
        ({"vertex_credentials": __file__}, "GENQUEUE_VERTEX_PROJECT: not set.* GENQUEUE_VERTEX_CREDENTIALS is for"),
    ],
)
def test_what_is_missing_is_named(given, words):
    """When no provider is configured, and when one is by half."""
    with pytest.raises(SettingsError, match=words):
        make_routes(WorkerSettings.load(**given))
