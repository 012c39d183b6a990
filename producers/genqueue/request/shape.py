"""The shape an answer is to have, as a Python type: its JSON Schema, and an answer read into it."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from genqueue.errors import InvalidRequest
from genqueue.request.names import is_object
from genqueue.request.schema import KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Keywords of JSON Schema that Gemini's Schema has too, or that the worker turns into its own.
_SCHEMA_KEYWORDS: Final = KEYWORDS - {"additionalProperties"}

#: Formats Gemini's Schema takes.
_FORMATS: Final = frozenset({"date-time", "enum", "int32", "int64", "float", "double"})


def is_type(value: object) -> bool:
    """Whether a value is a Python type (a class, or such as list[Model], X | Y, Annotated) or a TypeAdapter."""
    return (
        isinstance(value, (type, types.UnionType, types.GenericAlias, typing.NewType, TypeAdapter))
        or typing.get_origin(value) is not None
        or type(value).__name__ == "TypeAliasType"
    )


def schema_of(kind: Any, field: str) -> dict[str, Any]:
    """Return the JSON Schema of a Python type, which is not to be changed; raises InvalidRequest if it has none."""
    try:
        return _read(kind).schema
    except (PydanticUserError, TypeError, NameError, ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidRequest(field, kind, f"a type that pydantic has a JSON Schema for ({reason})") from error


def shape_of(value: Any, field: str = "response_schema") -> Any:
    """Return what an answer is to be read into; raises InvalidRequest unless it is a type, a schema or None."""
    if is_type(value):
        schema_of(value, field)
    elif value is not None and not is_object(value):
        raise InvalidRequest(field, value, "a schema: a mapping, a pydantic model or another Python type")
    return value


@dataclass(frozen=True, slots=True)
class _Shape:
    """A Python type as pydantic reads it."""

    adapter: TypeAdapter[Any]
    schema: dict[str, Any]


def _read(kind: Any) -> _Shape:
    try:
        return _read_before(kind, repr(kind))
    except TypeError:  # it cannot be hashed; or it is no type, which is then said again
        return _read_anew(kind)


@lru_cache(maxsize=128)
def _read_before(kind: Any, said: str) -> _Shape:
    del said  # equal types may say their choices in another order: int | str, Literal["a", "b"]
    return _read_anew(kind)


def _read_anew(kind: Any) -> _Shape:
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    return _Shape(adapter, adapter.json_schema())


def fits_gemini(schema: Any, above: frozenset[str] = frozenset(), root: Mapping[str, Any] | None = None) -> bool:
    """Whether Gemini's Schema can say all that a type's JSON Schema says.

    It has no maps of free keys, tuples, exclusive bounds, or choices other than texts, and cannot refer to itself.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return not isinstance(schema, bool)
    if not _SCHEMA_KEYWORDS.issuperset(schema) or schema.get("format", "int32") not in _FORMATS:
        return False
    choices = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    if not all(isinstance(choice, str) for choice in choices):
        return False
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        found = root.get("$defs", {}).get(name)
        return name not in above and found is not None and fits_gemini(found, above | {name}, root)
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    if "items" in schema:
        below.append(schema["items"])
    return all(fits_gemini(one, above, root) for one in below)


def read_answer(text: str, shape: Any) -> Any:
    """Return an answer's text in its shape: an object of the type, or decoded JSON for a schema; None if it is not.

    Args:
        text: of the answer.
        shape: a Python type, a schema (mapping, or google-genai's), or None for an answer that has none.
    """
    if shape is None:
        return None
    try:
        if is_object(shape):
            return json.loads(text)
        return _typed(text, _read(shape).adapter)
    except (ValueError, RecursionError, PydanticUserError, TypeError):
        return None


def _typed(text: str, adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError:
        # With response_mime_type text/x.enum the answer is the bare value.
        return adapter.validate_python(text.strip().strip('"'))
