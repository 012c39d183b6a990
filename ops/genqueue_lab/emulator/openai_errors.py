"""OpenAI's error answers: a status, a message, its type, the parameter it is about, and a code."""

from __future__ import annotations

import http
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Headers
    from genqueue_lab.emulator.quotas import Excess

_KEYS = "https://platform.openai.com/account/api-keys"
_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    f"(i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from {_KEYS}."
)

_PHRASES = {int(status): status.phrase for status in http.HTTPStatus}

#: What OpenAI says with a status, and the error's type.
_SENTENCES = {
    401: ("Your authentication token is not valid.", "invalid_request_error"),
    403: ("You are not allowed to do this.", "permission_error"),
    404: ("The requested resource does not exist.", "invalid_request_error"),
    408: ("Request timed out.", "timeout"),
    429: ("Rate limit reached. Please slow down.", "requests"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error"),
    503: ("That model is currently overloaded with other requests. Please try again later.", "server_error"),
}

#: Codes that come with a status.
_CODES = {429: "rate_limit_exceeded"}

#: Statuses that the front end answers by itself, with a page and not with an error object.
_FRONT_END = frozenset({413, 502, 504})


class ChatError(Exception):
    """An answer in OpenAI's error shape.

    Attributes:
        status: the HTTP status.
        headers: further header fields.
        page: the front end's HTML, which is answered instead; None for most.
    """

    page: bytes | None = None

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or []
        self._error = {"message": message, "type": kind, "param": param, "code": code}

    def body(self) -> dict[str, Any]:
        """Return the answer's JSON."""
        return {"error": self._error}


def missing_key() -> ChatError:
    """Return the answer to a request without a key."""
    return ChatError(401, _NO_KEY)


def wrong_key(key: str) -> ChatError:
    """Return the answer to a request with a key nobody gave out."""
    shown = f"{key[:4]}{'*' * 8}{key[-4:]}"
    message = f"Incorrect API key provided: {shown}. You can find your API key at {_KEYS}."
    return ChatError(401, message, code="invalid_api_key")


def unknown_url(method: str, path: str) -> ChatError:
    """Return the answer to a request for what is not there."""
    return ChatError(404, f"Invalid URL ({method} {path})")


def unknown_model(model: str) -> ChatError:
    """Return the answer to a request for a model that does not exist."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return ChatError(404, message, code="model_not_found")


def invalid(message: str, param: str | None = None, code: str | None = None) -> ChatError:
    """Return the answer to a request that is wrong."""
    return ChatError(400, message, param=param, code=code)


def quota_exceeded(excess: Excess, model: str) -> ChatError:
    """Return the answer to a request too many."""
    per = "min (RPM)" if excess.per == "Minute" else "day (RPD)"
    message = (
        f"Rate limit reached for {model} in organization org-emulator on requests per {per}: Limit {excess.limit}, "
        f"Used {excess.limit}, Requested 1. Please try again in {excess.wait:.3f}s."
    )
    headers = [
        ("retry-after", str(math.ceil(excess.wait))),
        ("retry-after-ms", str(math.ceil(excess.wait * 1000))),
        ("x-ratelimit-limit-requests", str(excess.limit)),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", f"{excess.wait:.3f}s"),
    ]
    return ChatError(429, message, kind="requests", code="rate_limit_exceeded", headers=headers)


def failure(status: int, retry_info: float | None, retry_after: float | None) -> ChatError:
    """Return the answer with a status that was asked for; the two are seconds, told exactly and in whole seconds."""
    phrase = _PHRASES.get(status, "Error")
    message, kind = _SENTENCES.get(status, (f"{phrase}.", "server_error" if status >= 500 else "invalid_request_error"))
    headers: Headers = []
    if retry_info is not None:
        headers.append(("retry-after-ms", f"{retry_info * 1000:.0f}"))
    if retry_after is not None:
        headers.append(("retry-after", f"{retry_after:.0f}"))
    error = ChatError(status, message, kind=kind, code=_CODES.get(status), headers=headers)
    if status in _FRONT_END:
        error.page = f"<html>\r\n<head><title>{status} {phrase}</title></head>\r\n</html>\r\n".encode()
    return error


def region_forbidden() -> ChatError:
    """Return the answer to a request from a place that is not served."""
    message = "Country, region, or territory not supported"
    return ChatError(403, message, kind="request_forbidden", code="unsupported_country_region_territory")
