"""Schemas as OpenAI's structured outputs and tools take them: JSON Schema, with properties in the order asked for."""

from typing import Any, Final

Schema = dict[str, Any]

#: Gemini's formats that are OpenAPI's and say nothing in JSON Schema.
_OPENAPI_FORMATS: Final = frozenset({"int32", "int64", "float", "double", "enum"})

#: Gemini's names of keywords that JSON Schema calls otherwise.
_RENAMED: Final = {"defs": "$defs", "ref": "$ref"}

#: Keywords that hold schemas under names of the caller's own.
_NAMED: Final = frozenset({"properties", "$defs", "defs", "definitions", "patternProperties"})

#: Keywords that hold a schema, or a list of them.
_NESTED: Final = frozenset({"items", "anyOf", "oneOf", "allOf", "not", "prefixItems", "additionalProperties"})

#: Keywords that say nothing about which answers fit.
_REMARKS: Final = frozenset({"$schema", "$id", "$comment", "default", "example", "examples"})

#: Keywords that strict structured outputs know.
_STRICT: Final = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)

#: Formats it knows.
_FORMATS: Final = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"})


def json_schema_of(schema: Any) -> Any:
    """Return the JSON Schema for Gemini's own Schema, as the SDK spells it: types in small letters, null as a type."""
    return ordered(_translated(schema))


def ordered(schema: Any) -> Any:
    """Return a JSON Schema whose properties stand in the order that `propertyOrdering` wrote down, without that."""
    if isinstance(schema, list):
        return [ordered(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    order = schema.get("propertyOrdering")
    result = {name: _inside(name, value, ordered) for name, value in schema.items() if name != "propertyOrdering"}
    if isinstance(order, list) and isinstance(properties := result.get("properties"), dict):
        first = {name: properties[name] for name in order if name in properties}
        result["properties"] = {**first, **properties}
    return result


def strictly(schema: Any) -> Schema | None:
    """Return a schema as strict structured outputs want it: closed objects, no remarks; None if it cannot be one.

    Strict decoding has no optional properties and knows few keywords. Objects that do not say whether they have others
    are closed: so does Gemini answer.
    """
    closed = _closed(schema)
    return closed if isinstance(closed, dict) and closed.get("type") == "object" and _is_strict(closed) else None


def _inside(name: str, value: Any, change: Any) -> Any:
    """Return a keyword's value with the schemas in it changed."""
    if name in _NAMED and isinstance(value, dict):
        return {key: change(inner) for key, inner in value.items()}
    return change(value) if name in _NESTED else value


def _translated(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_translated(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: _inside(name, value, _translated) for name, value in schema.items() if name != "nullable"}
    for name, known in _RENAMED.items():
        if name in result:
            result[known] = result.pop(name)
    if isinstance(result.get("$ref"), str):
        result["$ref"] = result["$ref"].replace("#/defs/", "#/$defs/")
    if isinstance(result.get("type"), str):
        result["type"] = result["type"].lower()
    if result.get("type") == "type_unspecified":
        del result["type"]
    if result.get("format") in _OPENAPI_FORMATS:
        del result["format"]
    return _nullable(result) if schema.get("nullable") else result


def _nullable(schema: Schema) -> Schema:
    """Return a schema that null fits too."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "$ref" in schema or "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if schema["type"] == "null":
        return schema
    several = {**schema, "type": [schema["type"], "null"]}
    if "enum" in several:
        several["enum"] = [*several["enum"], None]
    return several


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: _inside(name, value, _closed) for name, value in schema.items() if name not in _REMARKS}
    if _is_object(result) and "properties" in result:  # one without may hold anything
        result.setdefault("additionalProperties", False)
    return result


def _is_object(schema: Schema) -> bool:
    kinds = schema.get("type")
    return kinds == "object" or (isinstance(kinds, list) and "object" in kinds)


def _is_strict(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if not _STRICT.issuperset(schema) or schema.get("format", "date") not in _FORMATS:
        return False
    if "(?" in str(schema.get("pattern", "")):  # looking around is not for a decoder that goes forward
        return False
    if _is_object(schema):
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(properties) != set(schema.get("required", ())):
            return False
    named = [inner for name in _NAMED & schema.keys() for inner in schema[name].values()]
    return all(map(_is_strict, [*named, *(schema[name] for name in _NESTED & schema.keys())]))
