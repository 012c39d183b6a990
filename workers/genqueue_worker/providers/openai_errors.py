"""OpenAI's error objects, and HTTP failures of servers that speak its language, as provider errors."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import parse_retry_after

#: Seconds until an account that has run out of money is asked again: nobody tops it up within a back-off.
OUT_OF_MONEY: Final = 3600.0

#: HTTP statuses below 500 after which the same request may succeed: too slow, a conflict of the server's own, too much.
_RETRYABLE: Final = frozenset({408, 409, 429})

#: HTTP statuses from 500 on after which it may not: what is not implemented stays so.
_FINAL: Final = frozenset({501, 505})

#: HTTP statuses with which a key may have been refused; whether it was, another request with it tells.
_DOUBTFUL: Final = frozenset({401, 403})

#: Words for an account without money; 402 says it too.
_BROKE: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})

#: HTTP statuses of the words in an error that comes inside of a stream, as `code` or as `type`.
_STATUSES: Final = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "tokens": 429,
    "requests": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "service_unavailable": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}

#: The limits that headers tell of; when neither is said to be used up it was the second, which the request was too
#: large for.
_LIMITS: Final = ("requests", "tokens")

_UNITS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_LENGTH: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(ms|us|µs|ns|d|h|m|s|)")
_NUMBER: Final = re.compile(r"[45][0-9]{2}")
_AGAIN: Final = re.compile(r"try again in ((?:[0-9]{1,9}(?:\.[0-9]{1,12})?(?:ms|s|m|h|d))+)")

#: Longest piece of an answer that is no error object, for the message; in characters.
_MAX_EXCERPT: Final = 300


class _Error(msgspec.Struct):
    """What an error says, whoever wrote it; anything may be of any type."""

    message: Any = None
    type: Any = None
    param: Any = None
    code: Any = None


def error_of(body: Any, status: int | None = None, retry_after: float | None = None) -> ProviderError:
    """Turn an error object into an error; `status` counts over what the object says.

    An error that says no status at all came in the middle of a stream: it is retryable, tries being bounded.
    """
    error = _error_in(body)
    words = [word for word in (error.code, error.type) if isinstance(word, str) and word]
    status = status if status is not None else _status_of(error.code, words)
    message = _message(error, body)
    if status == 402 or _BROKE & set(words):
        retry_after, retryable = max(retry_after or 0.0, OUT_OF_MONEY), True
    else:
        retryable = status is None or _is_retryable(status)
        retry_after = retry_after if retry_after is not None else _told_in(message)
    return ProviderError(
        code=words[0] if words else f"HTTP_{status}" if status is not None else "provider_error",
        message=message,
        status=status,
        retryable=retryable,
        retry_after=retry_after if retryable else None,
        doubts_key=status in _DOUBTFUL,
    )


def error_of_response(status: int, headers: Mapping[str, str], body: bytes, now: float) -> ProviderError:
    """Turn an answer other than 200 into an error; `now` in Unix seconds, for a Retry-After that is a date."""
    if 300 <= status < 400 and (location := headers.get("location")):  # it may be asked there, but not with this key
        return ProviderError(f"HTTP_{status}", f"The server redirects to {location}: expected the API itself", status)
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        said = body.decode(errors="replace") or "empty answer"
    return error_of(said, status, told_wait(status, headers, now))


def _is_retryable(status: int) -> bool:
    """Whether the same request may succeed after an answer with this status."""
    return status in _RETRYABLE or (status >= 500 and status not in _FINAL)


def told_wait(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds an answer's headers ask to wait; None when they do not."""
    milliseconds = _length(f"{headers.get('retry-after-ms', '').strip()}ms")
    if milliseconds is not None:
        return milliseconds
    told = parse_retry_after(headers.get("retry-after"), now)
    return _reset(headers) if told is None and status == 429 else told


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the limit that was reached counts anew, as `x-ratelimit-reset-*` say: "6m0s", "20ms"."""
    resets = {name: _length(headers.get(f"x-ratelimit-reset-{name}", "").strip()) for name in _LIMITS}
    known = {name: reset for name, reset in resets.items() if reset is not None}
    used_up = [
        reset for name, reset in known.items() if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0"
    ]
    if used_up:
        return max(used_up)
    return known.get(_LIMITS[1], known.get(_LIMITS[0]))


def _length(text: str) -> float | None:
    """Read a length of time, "1m30.5s", or a bare number of seconds; None for anything else."""
    parts = _LENGTH.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def _told_in(message: str) -> float | None:
    found = _AGAIN.search(message)
    return _length(found[1]) if found else None


def _error_in(body: Any) -> _Error:
    """Return the error in a body: OpenAI's `{"error": {...}}`, a bare one as vLLM's, or none."""
    if isinstance(body, list) and body:
        body = body[0]
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, dict):
        return msgspec.convert(inner, _Error)
    return _Error(message=inner) if isinstance(inner, str) else _Error()


def _message(error: _Error, body: Any) -> str:
    if not isinstance(error.message, str) or not error.message:
        text = body if isinstance(body, str) else msgspec.json.encode(body).decode()
        return text[:_MAX_EXCERPT]
    if isinstance(error.param, str) and error.param and error.param not in error.message:
        return f"{error.message} ({error.param})"
    return error.message


def _status_of(code: Any, words: list[str]) -> int | None:
    """Return the HTTP status an error names, by its number or else by a word."""
    if isinstance(code, str) and _NUMBER.fullmatch(code):
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return next((_STATUSES[word] for word in words if word in _STATUSES), None)
