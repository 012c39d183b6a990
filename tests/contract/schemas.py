"""The JSON Schemas of ops/protocol, and what they say of what stands in the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOL = Path(__file__).parents[2] / "ops" / "protocol.md"
SCHEMAS: dict[str, dict[str, Any]] = {
    path.name.removesuffix(".schema.json"): json.loads(path.read_text())
    for path in sorted(PROTOCOL.with_suffix("").glob("*.schema.json"))
}
_REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)

#: Fields of every event.
COMMON = frozenset({"v", "type", "attempt", "n"})


def event_fields() -> dict[str, set[str]]:
    """Return the fields of each type of event that the schema names, without the common ones."""
    event = SCHEMAS["event"]
    types = [rule["if"]["properties"]["type"]["const"] for rule in event["allOf"]]
    return {kind: set(event["$defs"][kind]["properties"]) for kind in types}


def validate(name: str, document: Any) -> None:
    """Check a document against a schema, by name; raises ValidationError."""
    _validator(SCHEMAS[name]).validate(document)


def validate_event(fields: Mapping[str, str]) -> None:
    """Check an event as strictly as only its writer may be: no type and no field that the schema does not name."""
    validate("event", dict(fields))
    definition = SCHEMAS["event"]["$defs"][fields["type"]]
    assert fields.keys() - COMMON <= definition["properties"].keys(), fields
    for name, value in fields.items():
        inner = definition["properties"].get(name, {}).get("contentSchema")
        if inner is not None:
            _validator({**inner, "$defs": SCHEMAS["event"]["$defs"]}).validate(json.loads(value))


def validate_hash(name: str, fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """Check the public fields of a job's or flight's hash and return them; a packed result counts as a text."""
    public = SCHEMAS[name]["properties"]
    found = {key.decode(): value.decode("latin-1") for key, value in fields.items() if key.decode() in public}
    validate(name, found)
    return found


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema, registry=_REGISTRY, format_checker=FormatChecker())
