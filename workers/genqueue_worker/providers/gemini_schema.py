"""JSON Schema as Gemini's `Schema` takes it. Pure; does what google-genai does to a `response_schema`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genqueue_worker.providers.gemini_fields import unsupported
from genqueue_worker.providers.spelling import camel

Schema = dict[str, Any]

#: Keywords whose values are not schemas and stay as they are, whatever keys they hold.
_VERBATIM = frozenset({"default", "example", "enum", "required", "propertyOrdering", "additionalProperties"})


def response_schema(schema: Mapping[str, Any]) -> Schema:
    """Inline `$defs`, turn null types into `nullable`, one-valued constants into enums, and keep property order.

    Raises:
        ProviderError: `unsupported_field` for `additionalProperties`, which the Developer API does not take here.
    """
    definitions = schema.get("$defs") or {}
    root = {key: value for key, value in schema.items() if key != "$defs"}
    resolved: Schema = spell_schema(_Resolver(definitions, frozenset()).resolve(root))
    return resolved


def spell_schema(schema: Any) -> Any:
    """Spell keywords in camelCase and types in capitals; names of properties and values stay as they are."""
    if isinstance(schema, list):
        return [spell_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        keyword: _spell_keyword(keyword, value)
        for keyword, value in ((camel(key), value) for key, value in schema.items())
        if value is not None
    }


def _spell_keyword(keyword: str, value: Any) -> Any:
    if keyword == "type" and isinstance(value, str):
        return value.upper()
    if keyword in {"properties", "defs"} and isinstance(value, dict):
        return {name: spell_schema(schema) for name, schema in value.items()}
    return value if keyword in _VERBATIM else spell_schema(value)


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Resolve references against `definitions`; `open_refs` are those being resolved, so that a cycle ends."""

    definitions: Mapping[str, Schema]
    open_refs: frozenset[str]

    def resolve(self, schema: Schema) -> Schema:
        schema = _without_null_type({camel(key): value for key, value in schema.items() if value is not None})
        if schema.get("additionalProperties"):
            raise unsupported("responseSchema.additionalProperties")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return rest | self._referred(schema["$ref"])
        if "anyOf" in schema:
            return schema | {"anyOf": [self._sub_schema(item) for item in schema["anyOf"]]}
        kind = str(schema.get("type")).upper()
        if kind == "STRING" and "const" in schema:
            schema["enum"] = [schema.pop("const")]
        if kind == "OBJECT":
            return self._resolve_object(schema)
        if kind == "ARRAY":
            return self._resolve_array(schema)
        return schema

    def _resolve_object(self, schema: Schema) -> Schema:
        if (properties := schema.get("properties")) is not None:
            schema["properties"] = {name: self._sub_schema(item) for name, item in properties.items()}
            if len(properties) > 1:
                schema.setdefault("propertyOrdering", list(properties))
        return schema

    def _resolve_array(self, schema: Schema) -> Schema:
        if "items" in schema:
            schema["items"] = self._sub_schema(schema["items"])
        if "prefixItems" in schema:
            schema["prefixItems"] = [self._sub_schema(item) for item in schema["prefixItems"]]
        return schema

    def _sub_schema(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        return self._referred(schema["$ref"]) if "$ref" in schema else self.resolve(schema)

    def _referred(self, ref: str) -> Schema:
        name = ref.rpartition("defs/")[2]
        if name in self.open_refs or name not in self.definitions:
            return {}
        return _Resolver(self.definitions, self.open_refs | {name}).resolve(self.definitions[name])


def _without_null_type(schema: Schema) -> Schema:
    if schema.get("type") == "null":
        return {key: value for key, value in schema.items() if key != "type"} | {"nullable": True}
    choices = schema.get("anyOf", ())
    others = [choice for choice in choices if choice.get("type") != "null"]
    if len(others) == len(choices):
        return schema
    if len(others) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return rest | {"nullable": True} | {camel(key): value for key, value in others[0].items()}
    return schema | {"nullable": True, "anyOf": others}
