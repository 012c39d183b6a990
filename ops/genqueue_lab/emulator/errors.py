"""Google's error answers: a status, its canonical name, a message and details."""

from __future__ import annotations

from typing import Any

#: HTTP status of each canonical name the emulator uses.
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "ALREADY_EXISTS": 409,
    "INTERNAL": 500,
}

_TYPE = "type.googleapis.com/google.rpc."
_BAD_KEY = "API key not valid. Please pass a valid API key."
_NO_KEY = (
    "Method doesn't allow unregistered callers (callers without established identity). "
    "Please use API Key or other form of API consumer identity to call this API."
)


class GoogleError(Exception):
    """An answer in Google's error shape; `details` are google.rpc messages with their `@type`."""

    def __init__(self, status: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.code = STATUSES[status]
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
