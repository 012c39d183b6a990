"""Where Vertex AI is, what its resources are called, and what of a request is named anew for it. Pure: no I/O."""

import re
from typing import Any, Final

import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_fields import VERTEX
from genqueue_worker.providers.gemini_request import encode_body
from genqueue_worker.providers.seam import ProviderRequest, Route

#: The location that is nowhere in particular.
GLOBAL: Final = "global"

#: The version of the API that is spoken.
VERSION: Final = "v1"

#: What is asked to try a token: to count the tokens of next to nothing. It costs nothing, and needs the permission that
#: generating needs, aiplatform.endpoints.predict. Google looks at the model after that: an unknown one (404) will do.
TRIAL_MODEL: Final = "gemini-2.5-flash"
TRIAL_BODY: Final = msgspec.json.encode({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
PERMITTED: Final = frozenset({200, 404})

#: Locations of several regions, which have an endpoint of another name.
_MULTI_REGIONS: Final = frozenset({"us", "eu"})

#: One step of a resource name: nothing in it can lead out of the URL's path.
_STEP: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_@-]|\.(?!\.))*"
_PARENT: Final = rf"projects/[A-Za-z0-9](?:[A-Za-z0-9:-]|\.(?!\.))*/locations/(?P<location>{_STEP})"
_OWN: Final = rf"(?:publishers/{_STEP}/models|models|endpoints)/{_STEP}"
_FULL_NAME: Final = re.compile(rf"{_PARENT}/{_OWN}", re.ASCII)
_OWN_NAME: Final = re.compile(_OWN, re.ASCII)
_PUBLISHED: Final = re.compile(rf"(?:(?P<publisher>{_STEP})/)?(?P<model>{_STEP})", re.ASCII)

_NAMES: Final = (
    "a Gemini model's name, <publisher>/<model>, endpoints/<id>, models/<id>, or one of these behind "
    "projects/<project>/locations/<location>/"
)

#: Fields of the image config that Vertex AI has within `imageOutputOptions`.
_IMAGE_OUTPUT: Final = {"outputMimeType": "mimeType", "outputCompressionQuality": "compressionQuality"}


def vertex_route(
    project: str,
    location: str = GLOBAL,
    base_url: str | None = None,
    credentials_file: str | None = None,
    ca_file: str | None = None,
) -> Route:
    """Return the route to a location, at Google's own endpoint without a `base_url`."""
    return Route(
        "vertex",
        base_url or vertex_endpoint(location),
        "",
        ca_file,
        None if location == GLOBAL else location,
        kind="vertex",
        project=project,
        location=location,
        credentials_file=credentials_file,
    )


def vertex_endpoint(location: str) -> str:
    """Return the base URL of Google's endpoint for a location."""
    if location == GLOBAL:
        return "https://aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def trial_url(route: Route, model: str = TRIAL_MODEL) -> str:
    """Return where `TRIAL_BODY` is posted to."""
    return f"{route.base_url.rstrip('/')}/{VERSION}/{vertex_model_path(model, route)}:countTokens"


def parent_of(route: Route) -> str:
    """Return the resource under which a route's models are."""
    return f"projects/{route.project}/locations/{route.location}"


def vertex_model_path(model: str, route: Route) -> str:
    """Return the model's full resource name.

    Raises:
        ProviderError: `invalid_model`, the name could change the URL, or is of another region than the route's.
    """
    if full := _FULL_NAME.fullmatch(model):
        if route.location not in {GLOBAL, full["location"]}:
            message = f"{model!r} is in {full['location']}, this worker asks Vertex AI in {route.location}"
            raise ProviderError("invalid_model", message)
        return model
    if _OWN_NAME.fullmatch(model):
        return f"{parent_of(route)}/{model}"
    published = _PUBLISHED.fullmatch(model)
    if published is None:
        raise ProviderError("invalid_model", f"{model!r} is no model of Vertex AI: expected {_NAMES}")
    return f"{parent_of(route)}/publishers/{published['publisher'] or 'google'}/models/{published['model']}"


def encode_vertex_body(request: ProviderRequest, route: Route) -> bytes:
    """Return the JSON body of a generateContent call.

    Raises:
        ProviderError: `unsupported`, naming a field that Vertex AI does not take, or `invalid_request`.
    """
    config = dict(request.config)
    if isinstance(cached := config.get("cachedContent"), str):
        config["cachedContent"] = _cache_name(cached, route)
    if isinstance(image := config.get("imageConfig"), dict):
        config["imageConfig"] = _image_config(image)
    named = ProviderRequest(request.model, request.contents, request.system_instruction, config)
    return encode_body(named, VERTEX)


def _cache_name(name: str, route: Route) -> str:
    if name.startswith("locations/"):
        return f"projects/{route.project}/{name}"
    return f"{parent_of(route)}/{name}" if name.startswith("cachedContents/") else name


def _image_config(image: dict[str, Any]) -> dict[str, Any]:
    output = {inner: image[name] for name, inner in _IMAGE_OUTPUT.items() if name in image}
    rest = {name: value for name, value in image.items() if name not in _IMAGE_OUTPUT}
    given = rest.get("imageOutputOptions")
    # What stands in its own place counts over the short form, as with google-genai.
    return {**rest, "imageOutputOptions": output | (given or {})} if output else rest
