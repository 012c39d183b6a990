"""A JSON value that fits a schema: OpenAPI's subset (`responseSchema`) or JSON Schema (`responseJsonSchema`)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Schema = dict[str, Any]

#: Levels of nesting at which optional properties and list items are left out, so that recursive schemas end.
DEPTH = 6

#: Levels, values and characters after which an answer ends whatever the schema demands: one that demands itself, or a
#: thousand million items, must not take the emulator away from everybody else.
MAX_DEPTH = 30
MAX_VALUES = 5000
MAX_LENGTH = 100_000

_FORMATS = {
    "date-time": "2025-01-01T00:00:00Z",
    "date": "2025-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "reader@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Sampler:
    """Builds values for one schema.

    Args:
        schema: the whole schema, where `$ref` looks up `$defs`.
        words: returns text of at least the given number of characters.
    """

    def __init__(self, schema: Schema, words: Callable[[int], str]) -> None:
        self._root = schema
        self._words = words
        self._values = 0

    def value(self) -> Any:
        """Return a value that fits the whole schema."""
        return self._value(self._root, 0)

    def _value(self, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema)
        self._values += 1
        if self._exhausted or depth > MAX_DEPTH:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if branches := schema.get("anyOf") or schema.get("oneOf"):
            return self._value(branches[0], depth)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Schema, depth: int) -> Any:
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number" as kind:
                return math.ceil(_within(schema)) if kind == "integer" else _within(schema)
            case "boolean" | "null" as kind:
                return True if kind == "boolean" else None
            case _:
                return self._text(schema)

    @property
    def _exhausted(self) -> bool:
        return self._values > MAX_VALUES

    def _resolved(self, schema: Any) -> Schema:
        """Follow references; what leads nowhere, only to itself, or is `true` demands nothing."""
        for _ in range(MAX_DEPTH):
            if not isinstance(schema, dict):
                break
            if not (reference := schema.get("$ref")):
                return schema
            schema = self._root
            for name in str(reference).removeprefix("#").strip("/").split("/"):
                schema = _step(schema, name) if name else schema
        return {}

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        order = schema.get("propertyOrdering") or list(properties)
        return {
            name: self._value(properties[name], depth + 1)
            for name in order
            if name in properties and (depth < DEPTH or name in required)
        }

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        fewest, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", 2))
        first = schema.get("prefixItems", [])
        count = max(fewest, len(first), min(most, 2)) if depth < DEPTH else fewest
        kinds = itertools.chain(first, itertools.repeat(schema.get("items", {})))
        kept = itertools.takewhile(lambda _: not self._exhausted, itertools.islice(kinds, count))
        return [self._value(kind, depth + 1) for kind in kept]

    def _text(self, schema: Schema) -> str:
        if (form := schema.get("format")) in _FORMATS:
            return _FORMATS[form]
        text = self._words(min(max(int(schema.get("minLength", 0)), 12), MAX_LENGTH))
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _step(place: Any, name: str) -> Any:
    """Return what stands under a name, or a number in a list; `true` for nothing."""
    if isinstance(place, list):
        return place[int(name)] if name.isdecimal() and int(name) < len(place) else True
    return place.get(name, True) if isinstance(place, dict) else True


def _type(schema: Schema) -> str:
    kind = schema.get("type") or _type_by_keywords(schema)
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind).lower()


def _type_by_keywords(schema: Schema) -> str:
    for keyword, kind in (("properties", "object"), ("items", "array"), ("prefixItems", "array"), ("nullable", "null")):
        if keyword in schema:
            return kind
    return "string"


def _within(schema: Schema) -> float:
    """Return 1, moved into the schema's bounds."""
    over, under = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    low, high = max(schema.get("minimum", -math.inf), over), min(schema.get("maximum", math.inf), under)
    value = float(min(max(1, low), high))
    if value in (over, under):  # which it may not be itself
        middle = (low + high) / 2
        value = middle if math.isfinite(middle) else value + (1 if value == over else -1)
    step = schema.get("multipleOf")
    return math.ceil(value / step) * float(step) if step else value
