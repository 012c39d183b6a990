"""The request messages field by field, read as Google's JSON transcoder reads them.

Field names may be camelCase or snake_case, a repeated field may hold one bare message, and numbers may be text.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

_JSON = msgspec.json.Encoder()


@functools.cache
def camel(name: str) -> str:
    """Return a field's JSON name: "top_p" is "topP"."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@functools.cache
def snake(name: str) -> str:
    """Return a field's protobuf name: "topP" is "top_p"."""
    return re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), name)


@dataclass(slots=True)
class Violations:
    """What does not fit, as (path of the field, sentence) in the order found."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def unknown(self, path: str, name: str) -> None:
        """Note a field that the message does not have."""
        where = f" at '{path}'" if path else ""
        self.found.append((path, f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'))

    def value(self, path: str, kind: str, value: object) -> None:
        """Note a value of the wrong type."""
        self.found.append((path, f"Invalid value at '{path}' ({kind}), {_JSON.encode(value).decode()}"))


class Kind(Protocol):
    """A field's type."""

    def read(self, value: Any, path: str, violations: Violations) -> Any:
        """Return the value with JSON names and converted numbers; notes what does not fit."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, text or boolean, by its protobuf type name."""

    name: str
    type: type

    def read(self, value: Any, path: str, violations: Violations) -> Any:
        """Return the value converted."""
        try:
            return msgspec.convert(value, self.type, strict=not isinstance(value, str) or self.type is bool)
        except msgspec.ValidationError:
            violations.value(path, self.name, value)
            return None


@dataclass(frozen=True, slots=True)
class Json:
    """Any JSON value, taken as it is."""

    def read(self, value: Any, path: str, violations: Violations) -> Any:  # noqa: ARG002 - nothing to check
        """Return the value."""
        return value


@dataclass(frozen=True, slots=True)
class Many:
    """A repeated field."""

    kind: Kind

    def read(self, value: Any, path: str, violations: Violations) -> list[Any]:
        """Return the elements; a bare one counts as a list of one."""
        elements = value if isinstance(value, list) else [value]
        return [self.kind.read(one, f"{path}[{index}]", violations) for index, one in enumerate(elements)]


@dataclass(frozen=True, slots=True)
class Message:
    """A message with known fields, by JSON name."""

    name: str
    fields: dict[str, Kind]

    def read(self, value: Any, path: str, violations: Violations) -> dict[str, Any]:
        """Return the fields under their JSON names, without those that are null."""
        if not isinstance(value, dict):
            violations.value(path, f"type.googleapis.com/google.ai.generativelanguage.v1beta.{self.name}", value)
            return {}
        read = {}
        for name, inner in value.items():
            if (kind := self.fields.get(camel(name))) is None:
                violations.unknown(path, name)
            elif inner is not None:
                read[camel(name)] = kind.read(inner, f"{path}.{snake(name)}".lstrip("."), violations)
        return read


@dataclass(frozen=True, slots=True)
class Mapped:
    """A map from any name to values of one type."""

    kind: Kind

    def read(self, value: Any, path: str, violations: Violations) -> dict[str, Any]:
        """Return the map with its names as they are."""
        if not isinstance(value, dict):
            violations.value(path, "Map", value)
            return {}
        return {name: self.kind.read(one, f"{path}[{name}]", violations) for name, one in value.items()}


TEXT = Scalar("TYPE_STRING", str)
FLOAT = Scalar("TYPE_FLOAT", float)
INTEGER = Scalar("TYPE_INT32", int)
BOOLEAN = Scalar("TYPE_BOOL", bool)
JSON = Json()
OBJECT = Mapped(JSON)


def _fields(kind: Kind, names: str) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


SCHEMA = Message(
    "Schema",
    {
        **_fields(TEXT, "type format title description pattern"),
        **_fields(INTEGER, "minItems maxItems minLength maxLength minProperties maxProperties"),
        **_fields(FLOAT, "minimum maximum"),
        **_fields(Many(TEXT), "enum propertyOrdering required"),
        **_fields(JSON, "default example"),
        "nullable": BOOLEAN,
    },
)
SCHEMA.fields.update({"items": SCHEMA, "anyOf": Many(SCHEMA), "properties": Mapped(SCHEMA)})  # it contains itself
FUNCTION = Message(
    "FunctionDeclaration",
    {
        **_fields(TEXT, "name description behavior"),
        **_fields(SCHEMA, "parameters response"),
        **_fields(JSON, "parametersJsonSchema responseJsonSchema"),
    },
)
PART = Message(
    "Part",
    {
        **_fields(TEXT, "text thoughtSignature"),
        "thought": BOOLEAN,
        **_fields(OBJECT, "inlineData fileData functionCall functionResponse executableCode codeExecutionResult"),
        **_fields(OBJECT, "toolCall toolResponse videoMetadata mediaResolution partMetadata"),
    },
)
CONTENT = Message("Content", {"role": TEXT, "parts": Many(PART)})
TOOL = Message(
    "Tool",
    {
        "functionDeclarations": Many(FUNCTION),
        **_fields(JSON, "googleSearch googleSearchRetrieval codeExecution urlContext computerUse googleMaps"),
        **_fields(JSON, "fileSearch mcpServers"),
    },
)
FUNCTION_CALLING = Message(
    "FunctionCallingConfig",
    {"mode": TEXT, "allowedFunctionNames": Many(TEXT), "streamFunctionCallArguments": BOOLEAN},
)
TOOL_CONFIG = Message(
    "ToolConfig",
    {
        "functionCallingConfig": FUNCTION_CALLING,
        "retrievalConfig": JSON,
        "includeServerSideToolInvocations": BOOLEAN,
    },
)
THINKING = Message("ThinkingConfig", {"includeThoughts": BOOLEAN, "thinkingBudget": INTEGER, "thinkingLevel": TEXT})
GENERATION_CONFIG = Message(
    "GenerationConfig",
    {
        **_fields(FLOAT, "temperature topP topK presencePenalty frequencyPenalty"),
        **_fields(INTEGER, "maxOutputTokens candidateCount seed logprobs"),
        **_fields(BOOLEAN, "responseLogprobs enableEnhancedCivicAnswers"),
        **_fields(TEXT, "responseMimeType mediaResolution"),
        **_fields(Many(TEXT), "stopSequences responseModalities"),
        "responseSchema": SCHEMA,
        **_fields(JSON, "responseJsonSchema speechConfig imageConfig audioTranscriptionConfig"),
        **_fields(JSON, "translationConfig responseFormat"),
        "thinkingConfig": THINKING,
    },
)
GENERATE = Message(
    "GenerateContentRequest",
    {
        **_fields(TEXT, "model cachedContent serviceTier"),
        "contents": Many(CONTENT),
        "systemInstruction": CONTENT,
        "tools": Many(TOOL),
        "toolConfig": TOOL_CONFIG,
        "safetySettings": Many(JSON),
        "generationConfig": GENERATION_CONFIG,
        "store": BOOLEAN,
    },
)
COUNT = Message("CountTokensRequest", {"contents": Many(CONTENT), "generateContentRequest": GENERATE})
