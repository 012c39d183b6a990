"""The identity of a question: same meaning, same fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from genqueue.errors import InvalidRequest

#: Largest and smallest integer: what every JSON reader on the way keeps exactly.
_INTEGERS = range(-(2**63), 2**64)

#: Deepest nesting a request may have; json and the provider both give up far beyond it.
MAX_DEPTH = 100


def canonical(value: Any, field: str = "request", depth: int = 0) -> Any:
    """Return a JSON value in its canonical form: integral floats as integers, tuples as lists.

    Raises:
        InvalidRequest: not JSON (NaN, infinity, lone surrogates, other types), an integer of over 64 bits, or nested
            over MAX_DEPTH.
    """
    if depth > MAX_DEPTH:
        raise InvalidRequest(field.split(".", maxsplit=1)[0], "...", f"JSON nested at most {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, field)
    if isinstance(value, int):
        if not _INTEGERS.start <= value < _INTEGERS.stop:
            raise InvalidRequest(field, value, "an integer of at most 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(field, value, "a finite number")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, dict):
        return _mapping(value, field, depth)
    if isinstance(value, (list, tuple)):
        return [canonical(item, f"{field}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise InvalidRequest(field, value, "a JSON value (string, number, boolean, null, list or object)")


def _mapping(value: dict[Any, Any], field: str, depth: int) -> dict[str, Any]:
    result = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidRequest(field, key, "an object whose keys are strings")
        result[_text(key, field)] = canonical(item, f"{field}.{key}", depth + 1)
    return result


def _text(value: str, field: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(field, value, "text that is valid Unicode (it has a lone surrogate)") from error
    return str.__str__(value)  # of a string enum its value, not its name


def encode(value: Any) -> bytes:
    """Return the canonical JSON bytes of a canonical value: keys sorted, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(request: bytes, *, scope: str, residency: str = "") -> str:
    """Return the fingerprint (64 hex digits) of a canonical request within a sharing scope and residency."""
    digest = hashlib.sha256()
    for part in (b"1", scope.encode(), residency.encode(), request):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
