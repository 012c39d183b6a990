"""Vertex AI's addresses and names: google-genai's own are the measure."""

import httpx
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import ProviderRequest
from genqueue_worker.providers.vertex import encode_vertex_body, vertex_endpoint, vertex_model_path, vertex_route

TUNED = "projects/other/locations/us-central1/endpoints/123"
MODELS = ["gemini-2.5-flash", "gemini-1.5-pro@001", "meta/llama-4", "publishers/meta/models/llama-4", "models/7", TUNED]


def asked_by_sdk(location, model):
    """Return the URL that google-genai asks for one location and model."""
    asked = []

    def answer(request):
        asked.append(request.url)
        return httpx.Response(200, json={"candidates": []})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    options = types.HttpOptions(httpx_client=http, api_version="v1")
    where = {"project": "p", "location": location, "credentials": Credentials("t")}
    with http, genai.Client(vertexai=True, http_options=options, **where) as client:
        client.models.generate_content(model=model, contents="hi")
    return asked[0]


@pytest.mark.parametrize("location", ["global", "europe-west4", "us-central1", "eu", "us"])
def test_a_location_has_the_endpoint_that_the_sdk_asks(location):
    """Regions, Google's two groups of regions, and the global endpoint each have a host of their own."""
    asked = asked_by_sdk(location, "m")
    assert vertex_endpoint(location) == f"https://{asked.host}"
    route = vertex_route("p", location)
    assert asked.path == f"/v1/{vertex_model_path('m', route)}:generateContent"
    assert route.region == (None if location == "global" else location)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_the_name_that_the_sdk_gives_it(model):
    """Bare names are Google's; publishers, tuned models and endpoints are named as far as need be."""
    path = vertex_model_path(model, vertex_route("p", "global"))
    assert asked_by_sdk("global", model).path == f"/v1/{path}:generateContent"


def test_an_endpoint_may_be_named_in_short():
    """It is one of the route's project, where google-genai would ask for a publisher called endpoints."""
    path = vertex_model_path("endpoints/7", vertex_route("p", "eu"))
    assert path == "projects/p/locations/eu/endpoints/7"


@pytest.mark.parametrize("model", ["", "a/b/c", "../x", "a..b", "m?x", "m:predict", "projects/p/models/m", "models/"])
def test_a_name_that_could_change_the_url_is_refused(model):
    """It is said what is expected."""
    with pytest.raises(ProviderError, match="expected a Gemini model's name") as raised:
        vertex_model_path(model, vertex_route("p"))
    assert (raised.value.code, raised.value.retryable) == ("invalid_model", False)


def test_a_model_of_another_region_is_refused():
    """What may run in one region only is not asked of a model in another, whatever the model's name says."""
    with pytest.raises(ProviderError, match="is in us-central1, this worker asks Vertex AI in europe-west4"):
        vertex_model_path(TUNED, vertex_route("p", "europe-west4"))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("cachedContents/7", "projects/p/locations/eu/cachedContents/7"),
        ("locations/us/cachedContents/7", "projects/p/locations/us/cachedContents/7"),
        ("projects/q/locations/us/cachedContents/7", "projects/q/locations/us/cachedContents/7"),
    ],
)
def test_a_cache_is_named_in_full(given, named):
    """The Developer API's short name is one under the route's project and location."""
    body = encode_vertex_body(ProviderRequest("m", [], None, {"cachedContent": given}), vertex_route("p", "eu"))
    assert f'"cachedContent":"{named}"'.encode() in body


def test_files_of_the_other_surface_are_refused():
    """Vertex AI reads no files of the Files API, which only the Developer API does."""
    uri = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    contents = [{"role": "user", "parts": [{"fileData": {"fileUri": uri, "mimeType": "image/png"}}]}]
    with pytest.raises(ProviderError, match=r"takes no contents.parts.fileData.fileUri; .*gemini/<model>") as raised:
        encode_vertex_body(ProviderRequest("m", contents), vertex_route("p"))
    assert (raised.value.code, raised.value.retryable) == ("unsupported", False)
    contents[0]["parts"][0]["fileData"]["fileUri"] = "gs://bucket/a.png"
    encode_vertex_body(ProviderRequest("m", contents), vertex_route("p"))
