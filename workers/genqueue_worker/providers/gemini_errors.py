"""Google's error objects, and HTTP failures, as provider errors."""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from genqueue_worker.providers.errors import ProviderError

#: HTTP statuses after which the same request may succeed. 403 (region, permission) and 404 (model) may only
#: on another route.
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
#: Longest piece of an answer that is no Google error, for the message; in characters.
_MAX_EXCERPT = 300

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
    """Turn Google's `{"error": {...}}`, bare or in a list, into an error; `status` counts over the body's code."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        error = {"message": str(body)[:_MAX_EXCERPT]}
    code = error.get("code")
    status = status if status is not None or not isinstance(code, int) else code
    return ProviderError(
        code=str(error.get("status") or (f"HTTP_{status}" if status is not None else "provider_error")),
        message=str(error.get("message") or "no message"),
        status=status,
        retryable=status in RETRYABLE_STATUSES,
        retry_after=_retry_delay(error.get("details")) or retry_after,
    )


def error_of_response(status: int, headers: Mapping[str, str], body: bytes, now: float) -> ProviderError:
    """Turn an answer other than 200 into an error; `now` in Unix seconds, for a Retry-After that is a date."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decoded = body.decode(errors="replace") or "empty answer"
    return error_of(decoded, status, parse_retry_after(headers.get("retry-after"), now))


def error_of_transport(error: httpx.RequestError | httpx.InvalidURL) -> ProviderError:
    """Turn a connection's failure into an error that may be retried, unless the address or the key cannot be sent."""
    code, retryable = next((code, retryable) for kind, code, retryable in _TRANSPORT_CODES if isinstance(error, kind))
    return ProviderError(code, str(error) or type(error).__name__, retryable=retryable)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date, as seconds from `now`; None when it is neither."""
    if value is None:
        return None
    try:
        if value.strip().isdecimal():
            return _finite(float(value))
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _finite(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _retry_delay(details: object) -> float | None:
    """Find RetryInfo's `retryDelay`, a protobuf duration such as `"3.5s"`, among an error's details."""
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("@type") == _RETRY_INFO:
            try:
                return _finite(float(str(detail.get("retryDelay")).removesuffix("s")))
            except ValueError:
                return None
    return None
