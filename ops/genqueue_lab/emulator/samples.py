"""A JSON value that fits a schema: OpenAPI's subset (`responseSchema`) or JSON Schema (`responseJsonSchema`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Schema = dict[str, Any]

#: Levels of nesting at which optional properties and list items are left out, so that recursive schemas end.
DEPTH = 6

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

    def value(self) -> Any:
        """Return a value that fits the whole schema."""
        return self._value(self._root, 0)

    def _value(self, schema: Schema, depth: int) -> Any:
        schema = self._resolved(schema)
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

    def _resolved(self, schema: Schema) -> Schema:
        while reference := schema.get("$ref"):
            target: Any = self._root
            for name in str(reference).removeprefix("#").strip("/").split("/"):
                target = target.get(name, {}) if name else target
            schema = target
        return schema

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
        count = max(fewest, min(most, 2)) if depth < DEPTH else fewest
        return [self._value(schema.get("items", {}), depth + 1) for _ in range(count)]

    def _text(self, schema: Schema) -> str:
        if (form := schema.get("format")) in _FORMATS:
            return _FORMATS[form]
        text = self._words(max(int(schema.get("minLength", 0)), 12))
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _type(schema: Schema) -> str:
    kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind).lower()


def _within(schema: Schema) -> float:
    """Return 1, moved into the schema's bounds."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    return float(min(max(1, low), high))
