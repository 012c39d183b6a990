"""JSON Schema as Gemini's `Schema` takes it. Pure; does what google-genai does to a `response_schema`.

Keywords and types come spelled as Gemini's (`genqueue.request.schema`), with the order of properties written down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from genqueue_worker.providers.gemini_fields import DEVELOPER, Surface

Schema = dict[str, Any]

_ADDITIONAL: Final = "responseSchema.additionalProperties"


def response_schema(schema: Mapping[str, Any], surface: Surface = DEVELOPER) -> Schema:
    """Inline `$defs`, turn null types into `nullable`, and one-valued constants into enums.

    Raises:
        ProviderError: `unsupported` for `additionalProperties`, which the Developer API does not take here.
    """
    definitions = schema.get("$defs") or {}
    root = {key: value for key, value in schema.items() if key != "$defs"}
    return _Resolver(definitions, surface, frozenset()).resolve(root)


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Resolve references against `definitions`; `open_refs` are those being resolved, so that a cycle ends."""

    definitions: Mapping[str, Schema]
    surface: Surface
    open_refs: frozenset[str]

    def resolve(self, schema: Schema) -> Schema:
        schema = _without_null_type(dict(schema))
        if _ADDITIONAL in self.surface.refused and schema.pop("additionalProperties", False):
            raise self.surface.unsupported(_ADDITIONAL)  # without them is how Gemini answers anyway
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return rest | self._referred(schema["$ref"])
        if "anyOf" in schema:
            return schema | {"anyOf": [self._sub_schema(item) for item in schema["anyOf"]]}
        kind = schema.get("type")
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
        if "additionalProperties" in schema:
            schema["additionalProperties"] = self._sub_schema(schema["additionalProperties"])
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
        return _Resolver(self.definitions, self.surface, self.open_refs | {name}).resolve(self.definitions[name])


def _without_null_type(schema: Schema) -> Schema:
    if schema.get("type") == "NULL":
        return {key: value for key, value in schema.items() if key != "type"} | {"nullable": True}
    choices = schema.get("anyOf", ())
    others = [choice for choice in choices if choice.get("type") != "NULL"]
    if len(others) == len(choices):
        return schema
    if len(others) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        only: Schema = others[0]
        return rest | {"nullable": True} | only
    return schema | {"nullable": True, "anyOf": others}
