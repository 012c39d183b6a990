"""Google's error answers: a status, its canonical name, a message and details."""

from __future__ import annotations

import http
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genqueue_lab.emulator.quotas import Excess

#: HTTP status of each canonical name the emulator uses.
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "ALREADY_EXISTS": 409,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

#: Canonical names of statuses that more than one name has.
_NAMES = {code: name for name, code in reversed(STATUSES.items())}

_PHRASES = {int(status): status.phrase for status in http.HTTPStatus}

#: What Google says with a status.
_SENTENCES = {
    429: "Resource has been exhausted (e.g. check quota).",
    500: "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
    504: "Deadline expired before operation could complete.",
}

#: Statuses that Google's front end answers by itself, with a page and not with an error object.
_FRONT_END = frozenset({408, 413, 502})

_TYPE = "type.googleapis.com/google.rpc."
_LIMITS = "https://ai.google.dev/gemini-api/docs/rate-limits"
_BAD_KEY = "API key not valid. Please pass a valid API key."
_NO_KEY = (
    "Method doesn't allow unregistered callers (callers without established identity). "
    "Please use API Key or other form of API consumer identity to call this API."
)
_EXPECTED = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


class GoogleError(Exception):
    """An answer in Google's error shape; `details` are google.rpc messages with their `@type`.

    Attributes:
        page: the front end's HTML, which is answered instead; None for most.
        retry_after: seconds in the Retry-After header field; None leaves it out.
    """

    page: bytes | None = None
    retry_after: float | None = None

    def __init__(self, status: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.code = STATUSES.get(status, 0)
        self.status = status
        self.message = message
        self.details = details or []

    def body(self) -> dict[str, Any]:
        """Return the answer's JSON."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return {"error": error}


def missing_key() -> GoogleError:
    """Return the answer to a request without an API key."""
    return GoogleError("PERMISSION_DENIED", _NO_KEY)


def wrong_key() -> GoogleError:
    """Return the answer to a request with an API key nobody gave out."""
    info = {
        "@type": _TYPE + "ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    localized = {"@type": _TYPE + "LocalizedMessage", "locale": "en-US", "message": _BAD_KEY}
    return GoogleError("INVALID_ARGUMENT", _BAD_KEY, [info, localized])


def missing_token() -> GoogleError:
    """Return the answer to a request without an access token."""
    message = "Request is missing required authentication credential. " + _EXPECTED
    return GoogleError("UNAUTHENTICATED", message, [_vertex_info("CREDENTIALS_MISSING")])


def bad_token(reason: str) -> GoogleError:
    """Return the answer to an access token that is over, or that nobody gave out."""
    message = "Request had invalid authentication credentials. " + _EXPECTED
    return GoogleError("UNAUTHENTICATED", message, [_vertex_info(reason)])


def permission_denied(resource: str) -> GoogleError:
    """Return the answer to who may not use a project's models."""
    permission = "aiplatform.endpoints.predict"
    info = _vertex_info("IAM_PERMISSION_DENIED", permission=permission, resource=resource)
    message = (
        f"Permission '{permission}' denied on resource '//aiplatform.googleapis.com/{resource}' (or it may not exist)."
    )
    return GoogleError("PERMISSION_DENIED", message, [info])


def unknown_published_model(resource: str) -> GoogleError:
    """Return the answer to a model that no publisher has, or that the project may not use."""
    return GoogleError(
        "NOT_FOUND",
        f"Publisher Model `{resource}` was not found or your project does not have access to it. Please ensure you are "
        "using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )


def unknown_endpoint(resource: str) -> GoogleError:
    """Return the answer to an endpoint that does not exist."""
    return GoogleError("NOT_FOUND", f"Endpoint `{resource}` not found.")


def resource_exhausted() -> GoogleError:
    """Return Vertex AI's answer to a request too many: it names no quota, and no time to come again."""
    return GoogleError(
        "RESOURCE_EXHAUSTED",
        "Resource exhausted. Please try again later. Please refer to "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
    )


def _vertex_info(reason: str, **metadata: str) -> dict[str, Any]:
    return {
        "@type": _TYPE + "ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "aiplatform.googleapis.com", **metadata},
    }


def bad_fields(violations: list[tuple[str, str]]) -> GoogleError:
    """Return the answer to a payload that does not fit; a violation is a field's path, maybe "", and a sentence."""
    listed = [
        {"field": path, "description": sentence} if path else {"description": sentence} for path, sentence in violations
    ]
    details = [{"@type": _TYPE + "BadRequest", "fieldViolations": listed}]
    return GoogleError("INVALID_ARGUMENT", "\n".join(sentence for _, sentence in violations), details)


def bad_values(violations: list[tuple[str, str]]) -> GoogleError:
    """Return the answer to a request whose values are out of bounds: one starred line per field path."""
    lines = (f"* GenerateContentRequest.{path}: {sentence}\n" for path, sentence in violations)
    return GoogleError("INVALID_ARGUMENT", "".join(lines))


def invalid(message: str) -> GoogleError:
    """Return a plain INVALID_ARGUMENT answer."""
    return GoogleError("INVALID_ARGUMENT", message)


def unknown_model(model: str, version: str, method: str) -> GoogleError:
    """Return the answer to a method called on a model that does not exist."""
    return GoogleError(
        "NOT_FOUND",
        f"models/{model} is not found for API version {version}, or is not supported for {method}. "
        "Call ListModels to see the list of available models and their supported methods.",
    )


def failure(code: int, retry_info: float | None, retry_after: float | None) -> GoogleError:
    """Return the answer with an HTTP status that was asked for; the two are seconds, in the body and in a header."""
    phrase = _PHRASES.get(code, "Error")
    message = _SENTENCES.get(code, f"{phrase}.")
    details = [] if retry_info is None else [_retry_info(retry_info)]
    error = GoogleError(_NAMES.get(code, "UNKNOWN"), message, details)
    error.code, error.retry_after = code, retry_after
    if code in _FRONT_END:
        error.page = f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {code} ({phrase})!!1</title>\n".encode()
    return error


def region_forbidden() -> GoogleError:
    """Return the answer to a request from, or for, a location that is not allowed."""
    info = {
        "@type": _TYPE + "ErrorInfo",
        "reason": "LOCATION_POLICY_VIOLATED",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return GoogleError("PERMISSION_DENIED", "User location is not supported for the API use.", [info])


def quota_exceeded(excess: Excess, model: str) -> GoogleError:
    """Return the answer to a request too many."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    delay = _retry_info(excess.wait)
    violation = {
        "quotaMetric": metric,
        "quotaId": f"GenerateRequestsPer{excess.per}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": str(excess.limit),
    }
    link = {"description": "Learn more about Gemini API quotas", "url": _LIMITS}
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        f"error, head to: {_LIMITS}. \n* Quota exceeded for metric: {metric}, limit: {excess.limit}, model: {model}\n"
        f"Please retry in {excess.wait:.9f}s."
    )
    details = [
        {"@type": _TYPE + "Help", "links": [link]},
        {"@type": _TYPE + "QuotaFailure", "violations": [violation]},
        delay,
    ]
    return GoogleError("RESOURCE_EXHAUSTED", message, details)


def _retry_info(seconds: float) -> dict[str, Any]:
    """Return google.rpc.RetryInfo with a protobuf duration, rounded up: "3s", "0.250s"."""
    milliseconds = math.ceil(seconds * 1000)
    text = f"{milliseconds / 1000:.3f}" if milliseconds % 1000 else str(milliseconds // 1000)
    return {"@type": _TYPE + "RetryInfo", "retryDelay": f"{text}s"}
