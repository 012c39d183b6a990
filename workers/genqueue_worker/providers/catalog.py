"""The models a route offers, as the provider lists them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_response, error_of_transport
from genqueue_worker.providers.openai_errors import error_of_response as openai_error
from genqueue_worker.providers.probe import connect
from genqueue_worker.providers.seam import Kind, Route
from genqueue_worker.providers.vertex_tokens import in_thread

#: Models asked for at once; the provider may give fewer.
PAGE: Final = 200

#: Pages read at most: a provider that never comes to an end must not keep anybody.
MAX_PAGES: Final = 100


class Model(msgspec.Struct, frozen=True, rename="camel"):
    """One model; limits are in tokens, 0 where the provider names none."""

    name: str
    display_name: str = ""
    input_token_limit: int = 0
    output_token_limit: int = 0
    supported_generation_methods: tuple[str, ...] = ()
    thinking: bool = False


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    models: tuple[Model, ...]
    next_page_token: str = ""


class _PublisherPage(msgspec.Struct, frozen=True, rename="camel"):
    publisher_models: tuple[Model, ...]
    next_page_token: str = ""

    @property
    def models(self) -> tuple[Model, ...]:
        return self.publisher_models


class _Entry(msgspec.Struct, frozen=True):
    id: str


class _Entries(msgspec.Struct, frozen=True):
    data: tuple[_Entry, ...]

    next_page_token = ""

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(Model(entry.id) for entry in self.data)


@dataclass(frozen=True, slots=True)
class _List:
    """Where a kind of provider lists its models, and as what."""

    path: str
    page: Any
    page_size: bool = True


_LISTS: Final[Mapping[Kind, _List]] = {
    "gemini": _List("v1beta/models", _Page),
    "vertex": _List("v1beta1/publishers/google/models", _PublisherPage),
    "openai": _List("models", _Entries, page_size=False),
}


async def list_models(route: Route, timeout: float, *, page: int = PAGE) -> list[Model]:
    """Return every model of a route in the provider's order, over a connection of its own.

    Args:
        route: the way to the provider.
        timeout: seconds each wait for the endpoint may take.
        page: models asked for at once, where that can be said.

    Raises:
        ProviderError: the provider refused, cannot be reached, or answered what is no list of models.
    """
    try:
        return await _read(route, timeout, page)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise error_of_transport(error) from error
    except OSError as error:
        raise ProviderError("connect_error", str(error)) from error
    except msgspec.DecodeError as error:
        raise ProviderError("protocol_error", f"the endpoint's answer is no list of models: {error}") from error


async def _read(route: Route, timeout: float, page: int) -> list[Model]:
    models: list[Model] = []
    listed = _LISTS[route.kind]
    parameters: dict[str, str | int] = {"pageSize": page} if listed.page_size else {}
    headers = {"accept-encoding": "identity", **await _credentials(route)}
    async with connect(route, timeout) as client:
        for _ in range(MAX_PAGES):
            answer = await client.get(f"{route.base_url.rstrip('/')}/{listed.path}", params=parameters, headers=headers)
            if answer.status_code != httpx.codes.OK:
                refused = openai_error if route.kind == "openai" else error_of_response
                raise refused(answer.status_code, answer.headers, answer.content, time.time())
            found = msgspec.json.decode(answer.content, type=listed.page)
            models += found.models
            if not found.next_page_token:
                return models
            parameters["pageToken"] = found.next_page_token
    raise ProviderError("protocol_error", f"the list of models has more than {MAX_PAGES} pages")


async def _credentials(route: Route) -> Mapping[str, str]:
    """Return the headers that let us in; raises ProviderError."""
    if route.kind == "gemini":
        return {"x-goog-api-key": route.api_key}
    if route.kind == "openai":
        return {"authorization": f"Bearer {route.api_key}"} if route.api_key else {}
    # Only where it is needed: google-auth takes a tenth of a second to import.
    from genqueue_worker.providers.vertex_signin import SignIn  # noqa: PLC0415

    token = await in_thread(SignIn(route))
    return token.headers
