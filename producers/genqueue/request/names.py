"""Names of fields, and objects that have them: what callers write becomes what Gemini's REST interface calls it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

_AFTER_UNDERSCORE = re.compile(r"_+([a-z0-9])")
_PLAIN = frozenset({dict, list, tuple, str, int, float, bool, bytes, type(None)})
_CAPITAL = re.compile(r"([A-Z])")


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """Turn snake_case into camelCase; what is camelCase stays."""
    return _AFTER_UNDERSCORE.sub(lambda match: match.group(1).upper(), name)


@lru_cache(maxsize=1024)
def snake(name: str) -> str:
    """Turn camelCase into snake_case; what is snake_case stays."""
    return _CAPITAL.sub(lambda match: "_" + match.group(1).lower(), name)


def opened(value: Any) -> Any:
    """Return the fields of a pydantic object, google-genai's types among them, as a mapping; anything else as it is.

    One level at a time, so that what is inside keeps its own types: bytes, enumerations and further objects.
    """
    if type(value) not in _PLAIN and isinstance(value, BaseModel):
        fields = {name: getattr(value, name, None) for name in type(value).model_fields}
        return {**fields, **(value.model_extra or {})}
    return value


def is_object(value: object) -> bool:
    """Whether a value has fields: a mapping, or a pydantic object."""
    return isinstance(value, (dict, Mapping, BaseModel))
