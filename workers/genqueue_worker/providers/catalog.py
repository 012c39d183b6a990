"""The models a route offers, as the provider lists them."""

import time
from typing import Final

import httpx
import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_response, error_of_transport
from genqueue_worker.providers.probe import connect
from genqueue_worker.providers.seam import Route

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


async def list_models(route: Route, timeout: float, *, page: int = PAGE) -> list[Model]:
    """Return every model of a route in the provider's order, over a connection of its own.

    Args:
        route: the way to the provider.
        timeout: seconds each wait for the endpoint may take.
        page: models asked for at once.

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
    headers = {"x-goog-api-key": route.api_key, "accept-encoding": "identity"}
    parameters: dict[str, str | int] = {"pageSize": page}
    async with connect(route, timeout) as client:
        for _ in range(MAX_PAGES):
            url = f"{route.base_url.rstrip('/')}/v1beta/models"
            answer = await client.get(url, params=parameters, headers=headers)
            if answer.status_code != httpx.codes.OK:
                raise error_of_response(answer.status_code, answer.headers, answer.content, time.time())
            found = msgspec.json.decode(answer.content, type=_Page)
            models += found.models
            if not found.next_page_token:
                return models
            parameters["pageToken"] = found.next_page_token
    raise ProviderError("protocol_error", f"the list of models has more than {MAX_PAGES} pages")
