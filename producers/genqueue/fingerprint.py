"""The identity of a question: same meaning, same fingerprint."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from genqueue.errors import InvalidRequest

#: Largest and smallest integer: what every JSON reader on the way keeps exactly.
_INTEGERS = range(-(2**63), 2**64)

#: The beginning of a path that goes too deep.
_BEGINNING = re.compile(r"[^.\[]*(\[\d+\])?(\.[^.\[]*)?")

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

#: Deepest nesting a request may have; json and the provider both give up far beyond it.
MAX_DEPTH = 100


def canonical(value: Any, field: str = "request", depth: int = 0) -> Any:
    """Return a JSON value in its canonical form: integral floats as integers, tuples as lists.

    Raises:
        InvalidRequest: not JSON (NaN, infinity, lone surrogates, other types), an integer of over 64 bits, or nested
            over MAX_DEPTH.
    """
    if depth > MAX_DEPTH:
        raise too_deep(field)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return sound(value, field)
    if isinstance(value, int):
        if not _INTEGERS.start <= value < _INTEGERS.stop:
            raise InvalidRequest(field, value, "an integer of at most 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(field, value, "a finite number")
        return int(value) if value.is_integer() and _INTEGERS.start <= value < _INTEGERS.stop else value
    if isinstance(value, (dict, Mapping)):  # the first is found much faster
        return _mapping(value, field, depth)
    if isinstance(value, (list, tuple)):
        return [canonical(item, f"{field}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise InvalidRequest(field, value, "a JSON value (string, number, boolean, null, list or object)")


def _mapping(value: Mapping[Any, Any], field: str, depth: int) -> dict[str, Any]:
    result = {}
    for key, item in value.items():
        result[sound(key, field)] = canonical(item, f"{field}.{key}", depth + 1)
    return result


def too_deep(field: str) -> InvalidRequest:
    """Return the error for JSON below `field` that is nested over MAX_DEPTH."""
    place = _BEGINNING.match(field)
    return InvalidRequest(place[0] if place else field, "...", f"JSON nested at most {MAX_DEPTH} deep")


def sound(value: object, field: str) -> str:
    """Return a text, or the key of an object, as plain text; raises InvalidRequest when it cannot be sent as UTF-8."""
    if not isinstance(value, str):
        raise InvalidRequest(field, value, "an object whose keys are strings")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(field, value, "text that is valid Unicode (it has a lone surrogate)") from error
    return str.__str__(value)  # of a string enum its value, not its name


def encode(value: Any) -> bytes:
    """Return the canonical JSON bytes of a canonical value: keys sorted, no spaces, UTF-8."""
    return _CANONICAL.encode(value).encode()


def fingerprint(request: bytes, *, scope: str, key: bytes = b"") -> str:
    """Return the fingerprint (64 hex digits) of a canonical request within a sharing scope.

    With a key nobody can try questions against the fingerprints in the server.
    """
    digest = hmac.new(key, digestmod=hashlib.sha256) if key else hashlib.sha256()
    for part in (b"1", scope.encode(), request):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
