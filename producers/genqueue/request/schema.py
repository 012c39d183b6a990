"""JSON Schema and Gemini's own `Schema`, its OpenAPI subset: one spelling, and a check before anything is queued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import MAX_DEPTH, canonical, encode, sound, too_deep
from genqueue.request.complaint import path_of
from genqueue.request.names import camel, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Keywords of Gemini's Schema, and those that the worker turns into its own.
KEYWORDS: Final = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "defs",
        "description",
        "enum",
        "example",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "nullable",
        "pattern",
        "properties",
        "propertyOrdering",
        "ref",
        "required",
        "title",
        "type",
    }
)

#: Keywords whose values are not schemas and stay as they are, whatever keys they hold.
_VALUES: Final = frozenset(
    {"default", "example", "enum", "const", "required", "propertyOrdering", "additionalProperties"}
)

#: Keywords that hold schemas under names of the caller's own.
_NAMED: Final = frozenset({"properties", "defs", "$defs"})

#: Keywords that hold a schema, or a list of them.
_NESTED: Final = frozenset({"items", "anyOf", "oneOf", "allOf", "not", "prefixItems", "additionalProperties"})

#: Keywords that count; protobuf's JSON form writes such numbers as text too.
_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})

#: Earlier drafts by what their `$schema` holds; every other schema is read as draft 2020-12.
_DRAFTS: Final = {
    "draft-04": "Draft4Validator",
    "draft-06": "Draft6Validator",
    "draft-07": "Draft7Validator",
    "2019-09": "Draft201909Validator",
}


def spell_schema(schema: Any, field: str, depth: int = 0, *, ordered: bool = False) -> Any:
    """Return a schema with keywords in camelCase and types in capitals; names of properties and values stay.

    Args:
        schema: a mapping, or google-genai's Schema.
        field: its path, for errors.
        depth: how deep it stands in the request.
        ordered: whether the order of an object's properties is written down, as the model answers in it.

    Raises:
        InvalidRequest: it is not JSON, or has a keyword that Gemini's Schema has not.
    """
    if depth > MAX_DEPTH:
        raise too_deep(field)
    schema = opened(schema)
    if isinstance(schema, (list, tuple)):
        return [
            spell_schema(item, f"{field}[{index}]", depth + 1, ordered=ordered) for index, item in enumerate(schema)
        ]
    if not isinstance(schema, Mapping):
        return canonical(schema, field, depth)
    spelled: dict[str, Any] = {}
    for key, value in schema.items():
        if value is not None:
            keyword = camel(sound(key, field))
            if keyword not in KEYWORDS:
                expected = "a keyword of Gemini's Schema; JSON Schema belongs in response_ or parameters_json_schema"
                raise InvalidRequest(f"{field}.{key}", value, expected)
            if keyword in spelled:
                raise InvalidRequest(f"{field}.{key}", value, "this keyword once, not in two spellings")
            spelled[keyword] = _keyword(keyword, value, f"{field}.{key}", depth + 1, ordered=ordered)
    _plain_type(spelled)
    properties = spelled.get("properties")
    if ordered and spelled.get("type") == "OBJECT" and "anyOf" not in spelled and isinstance(properties, dict):
        _order(spelled, list(properties))
    return spelled


def _keyword(keyword: str, value: Any, field: str, depth: int, *, ordered: bool) -> Any:
    if keyword in _NAMED and isinstance(value, Mapping):
        return {
            sound(name, field): spell_schema(schema, f"{field}.{name}", depth + 1, ordered=ordered)
            for name, schema in value.items()
        }
    if keyword in _VALUES:
        return canonical(opened(value), field, depth)
    spelled = spell_schema(value, field, depth, ordered=ordered)
    if keyword == "type" and isinstance(spelled, str):
        return spelled.upper()
    if keyword in _COUNTS and isinstance(spelled, str) and spelled.isascii() and spelled.isdigit():
        return canonical(int(spelled), field, depth) if len(spelled) <= 19 else spelled
    return spelled


def _plain_type(schema: dict[str, Any]) -> None:
    """Write JSON Schema's ["string", "null"] as Gemini's nullable type."""
    kinds = schema.get("type")
    if isinstance(kinds, list) and len(kinds) == 2 and all(isinstance(kind, str) for kind in kinds):
        others = [kind for kind in kinds if kind.lower() != "null"]
        if len(others) == 1:
            schema["type"], schema["nullable"] = others[0].upper(), True


def _order(schema: dict[str, Any], names: list[str]) -> None:
    if len(names) > 1 and "propertyOrdering" not in schema:
        schema["propertyOrdering"] = names


def keep_order(schema: Any) -> Any:
    """Return a JSON Schema in which the order of properties is written down where sorting them would lose it."""
    if isinstance(schema, list):
        return [keep_order(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {keyword: _kept(keyword, value) for keyword, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and list(properties) != sorted(properties):
        _order(kept, list(properties))
    return kept


def _kept(keyword: str, value: Any) -> Any:
    if keyword in _NAMED and isinstance(value, dict):
        return {name: keep_order(schema) for name, schema in value.items()}
    return keep_order(value) if keyword in _NESTED else value


def check_schema(schema: Any, field: str) -> None:
    """Check a canonical JSON Schema; raises InvalidRequest naming the place inside it that is none."""
    if not isinstance(schema, (dict, bool)):
        raise InvalidRequest(field, schema, "a JSON Schema: an object")
    steps, value, problem = _problem(encode(schema))
    if problem:
        raise InvalidRequest(path_of(field, steps), value, f"JSON Schema ({problem})")


def check_spelled_schema(schema: Any, field: str) -> None:
    """Check a Schema as `spell_schema` returns it; raises InvalidRequest naming the place inside it."""
    check_schema(_in_lower_case(schema), field)


def _in_lower_case(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_in_lower_case(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        keyword: _lower_keyword(keyword, value)
        for keyword, value in schema.items()
        if (keyword, value) != ("type", "TYPE_UNSPECIFIED")
    }


def _lower_keyword(keyword: str, value: Any) -> Any:
    if keyword == "type" and isinstance(value, str):
        return value.lower()
    if keyword in _NAMED and isinstance(value, dict):
        return {name: _in_lower_case(schema) for name, schema in value.items()}
    return _in_lower_case(value) if keyword in _NESTED else value


@lru_cache(maxsize=256)
def _problem(encoded: bytes) -> tuple[tuple[object, ...], object, str]:
    """Return where a schema is wrong, what stands there and what is wrong with it; nothing for a sound one."""
    import jsonschema  # noqa: PLC0415 - slow to import, and only requests with a schema need it

    schema = json.loads(encoded)
    named = str(schema.get("$schema", "")) if isinstance(schema, dict) else ""
    draft = next((kind for mark, kind in _DRAFTS.items() if mark in named), "Draft202012Validator")
    try:
        # Without formats: Python's idea of a regular expression is not JSON Schema's.
        getattr(jsonschema, draft).check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        return tuple(error.absolute_path), error.instance, error.message[:200]
    except RecursionError:
        return (), "...", "nested less deeply"
    for steps, reference in _references(schema, ()):
        if not _leads_somewhere(schema, reference):
            return steps, reference, "there is nothing at that place"
    return (), None, ""


def _references(schema: Any, steps: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], str]]:
    """Yield every reference into the schema itself, and where it stands."""
    inner: Iterable[tuple[object, Any]] = ()
    if isinstance(schema, list):
        inner = enumerate(schema)
    elif isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            yield (*steps, "$ref"), reference
        inner = ((keyword, value) for keyword, value in schema.items() if keyword not in _VALUES)
    for step, value in inner:
        yield from _references(value, (*steps, step))


def _leads_somewhere(schema: Any, reference: str) -> bool:
    """Whether a JSON pointer in a URI's fragment names a place in the schema."""
    place = schema
    for step in unquote(reference).removeprefix("#/").split("/"):
        if isinstance(place, list):
            place = {str(index): item for index, item in enumerate(place)}
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, dict) or name not in place:
            return False
        place = place[name]
    return True
