"""Google's error objects, and HTTP failures, as provider errors."""

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec

from genqueue_worker.providers.errors import ProviderError

#: HTTP statuses after which the same request may succeed. 403 (region, permission) and 404 (model) may only
#: on another route.
_RETRYABLE_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})

#: HTTP statuses with which a key may have been refused; whether it was, another request with it tells.
_DOUBTFUL_STATUSES: Final = frozenset({401, 403})

#: Google's word, with status 400, for a key used from a country that is not served.
_WRONG_PLACE: Final = "FAILED_PRECONDITION"

#: HTTP statuses of Google's canonical names, for an error in a stream that says no number.
_STATUSES: Final = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}

_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"

#: The reason in ErrorInfo of a key that nobody gave out, or that was taken back; its status is 400.
_INVALID_KEY: Final = "API_KEY_INVALID"

#: Seconds as a header or a protobuf duration spells them.
_SECONDS: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")

#: Longest piece of an answer that is no Google error, for the message; in characters.
_MAX_EXCERPT: Final = 300

#: How deep errors are looked for in the messages of errors: a front end quotes the one behind it.
_MAX_DEPTH: Final = 3

#: httpx's exceptions, the narrower first, the code each becomes, and whether a second try may pass.
_TRANSPORT_CODES: tuple[tuple[type[Exception], str, bool], ...] = (
    (httpx.InvalidURL, "invalid_url", False),
    (httpx.UnsupportedProtocol, "invalid_url", False),
    (httpx.LocalProtocolError, "invalid_header", False),
    (httpx.ConnectTimeout, "connect_timeout", True),
    (httpx.PoolTimeout, "connections_full", True),
    (httpx.TimeoutException, "read_timeout", True),
    (httpx.ConnectError, "connect_error", True),
    (httpx.RemoteProtocolError, "protocol_error", True),
    (httpx.RequestError, "connection_lost", True),
)


def error_of(body: Any, status: int | None = None, retry_after: float | None = None) -> ProviderError:
    """Turn Google's `{"error": {...}}`, bare or in a list, into an error; `status` counts over the body's code.

    An error that says no status at all came in the middle of a stream: it is retryable, tries being bounded.
    """
    error = _error_in(body)
    if error is None:
        error = {"message": str(body)[:_MAX_EXCERPT]}
    word = error.get("status")
    status = status if status is not None else _status_of(error)
    details = list(_details_of(error))
    told = next((seconds for detail in details if (seconds := _retry_delay(detail)) is not None), None)
    return ProviderError(
        code=str(word or (f"HTTP_{status}" if status is not None else "provider_error")),
        message=str(error.get("message") or "no message"),
        status=status,
        retryable=status is None or status in _RETRYABLE_STATUSES,
        retry_after=told or retry_after,
        doubts_key=status in _DOUBTFUL_STATUSES or word == _WRONG_PLACE or any(map(_names_invalid_key, details)),
    )


def error_of_response(status: int, headers: Mapping[str, str], body: bytes, now: float) -> ProviderError:
    """Turn an answer other than 200 into an error; `now` in Unix seconds, for a Retry-After that is a date."""
    return error_of(
        _decoded(body) or body.decode(errors="replace") or "empty answer",
        status,
        parse_retry_after(headers.get("retry-after"), now),
    )


def error_of_transport(error: httpx.RequestError | httpx.InvalidURL) -> ProviderError:
    """Turn a connection's failure into an error that may be retried, unless the address or the key cannot be sent."""
    code, retryable = next((code, retryable) for kind, code, retryable in _TRANSPORT_CODES if isinstance(error, kind))
    return ProviderError(code, str(error) or type(error).__name__, retryable=retryable)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date, as seconds from `now`; None when it is neither."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _decoded(text: str | bytes) -> Any:
    """Return what some JSON says; None when it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _error_in(body: Any) -> dict[str, Any] | None:
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def _status_of(error: Mapping[str, Any]) -> int | None:
    """Return the HTTP status an error names, by its number or else by its word."""
    code = error.get("code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool):
        return code
    return _STATUSES.get(str(error.get("status")))


def _details_of(error: Mapping[str, Any], depth: int = _MAX_DEPTH) -> Iterator[dict[str, Any]]:
    """Yield the details of an error, then those of errors that its details and its message quote."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail
    if not depth:
        return
    message = error.get("message")
    quoted = [*(details if isinstance(details, list) else ()), error]
    if isinstance(message, str) and "{" in message:
        quoted.append(_decoded(message[message.index("{") : message.rindex("}") + 1]) if "}" in message else None)
    for one in quoted:
        inner = _error_in(one)
        if inner is not None:
            yield from _details_of(inner, depth - 1)


def _retry_delay(detail: Mapping[str, Any]) -> float | None:
    """Return the seconds RetryInfo asks for, a protobuf duration: `"3.5s"`, or seconds and nanos."""
    if detail.get("@type") != _RETRY_INFO:
        return None
    delay = detail.get("retryDelay")
    if isinstance(delay, dict):
        seconds, nanos = _number(delay.get("seconds", 0)), _number(delay.get("nanos", 0))
        return None if seconds is None or nanos is None else seconds + nanos / 1e9
    return _number(delay.removesuffix("s") if isinstance(delay, str) else delay)


def _number(value: object) -> float | None:
    """Return a finite number of at least 0; None for anything else."""
    if isinstance(value, str):
        return float(value) if _SECONDS.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) and value >= 0 else None
    except OverflowError:
        return None


def _names_invalid_key(detail: Mapping[str, Any]) -> bool:
    return detail.get("@type") == _ERROR_INFO and detail.get("reason") == _INVALID_KEY
