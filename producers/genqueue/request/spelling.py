"""Requests in one spelling: as Gemini's REST interface writes them, and as canonical JSON.

A path joins names in camelCase with dots and leaves lists out: `tools.functionDeclarations.parameters`. A test holds
the tables to google-genai's types.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import MAX_DEPTH, canonical, sound, too_deep
from genqueue.request.names import camel, opened
from genqueue.request.schema import check_schema, check_spelled_schema, spell_schema

#: Fields of a part that hold an object.
PART_OBJECTS: Final = frozenset(
    {
        "audioMetadata",
        "audioTranscription",
        "codeExecutionResult",
        "documentMetadata",
        "executableCode",
        "fileData",
        "functionCall",
        "functionResponse",
        "inlineData",
        "mediaResolution",
        "partMetadata",
        "speechMetadata",
        "spreadsheetMetadata",
        "toolCall",
        "toolResponse",
        "videoMetadata",
    }
)

#: Fields of a part. What else a model's turn may hold goes back as it came, and is not spelled anew.
PART_FIELDS: Final = PART_OBJECTS | {"mediaProcessing", "text", "thought", "thoughtSignature"}

#: Paths whose values hold names of the caller's own and are not spelled anew.
VERBATIM: Final = frozenset(
    {
        "labels",
        "tools.mcpServers.streamableHttpTransport.headers",
        "tools.parallelAiSearch.customConfigs",
        "tools.exaAiSearch.customConfigs",
        "contents.parts.partMetadata",
        "contents.parts.functionCall.args",
        "contents.parts.functionResponse.response",
        "contents.parts.toolCall.args",
        "contents.parts.toolResponse.response",
    }
)

#: Paths that hold a Schema.
SCHEMAS: Final = frozenset({"tools.functionDeclarations.parameters", "tools.functionDeclarations.response"})

#: Paths that hold a JSON Schema, which is not spelled anew.
JSON_SCHEMAS: Final = frozenset(
    {"tools.functionDeclarations.parametersJsonSchema", "tools.functionDeclarations.responseJsonSchema"}
)

#: Fields that hold names of an enumeration, which the API spells in capitals.
ENUMS: Final = frozenset(
    {
        "apiSpec",
        "authType",
        "behavior",
        "blockingConfidence",
        "category",
        "contentLayers",
        "disabledSafetyPolicies",
        "environment",
        "featureSelectionPreference",
        "httpElementLocation",
        "language",
        "level",
        "mediaProcessing",
        "mediaResolution",
        "method",
        "mode",
        "modelRoutingPreference",
        "outcome",
        "prominentPeople",
        "responseModalities",
        "scheduling",
        "thinkingLevel",
        "threshold",
        "toolType",
    }
)

#: Fields that hold bytes, in base64; and `data`, within `inlineData`.
BINARY: Final = frozenset({"thoughtSignature", "voiceSampleAudio", "consentAudio", "continuationToken"})

#: Fields of one kind of value only, and that kind in words.
KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "thinkingConfig.includeThoughts": (bool, "true or false"),
    "thinkingConfig.thinkingBudget": (int, "a whole number of tokens"),
    "thinkingConfig.thinkingLevel": (str, "a text"),
    "safetySettings.category": (str, "a text"),
    "safetySettings.threshold": (str, "a text"),
    "toolConfig.functionCallingConfig.mode": (str, "a text"),
    "tools.functionDeclarations.name": (str, "a text"),
    "tools.functionDeclarations.description": (str, "a text"),
    "contents.parts.text": (str, "a text"),
    "contents.parts.thought": (bool, "true or false"),
    "contents.parts.inlineData.mimeType": (str, "a text"),
    "contents.parts.fileData.mimeType": (str, "a text"),
    "contents.parts.fileData.fileUri": (str, "a text"),
    "contents.parts.functionCall.name": (str, "a text"),
    "contents.parts.functionCall.args": (dict, "an object"),
    "contents.parts.functionResponse.name": (str, "a text"),
    "contents.parts.functionResponse.response": (dict, "an object"),
}

_BINARY_ENDS: Final = ("inlineData.data", *BINARY)
_URL_SAFE = str.maketrans("-_", "+/", "=")


def spelled(value: Any, path: str, field: str, depth: int = 0) -> Any:
    """Return a value as canonical JSON in the REST spelling; what is null is left out.

    Args:
        value: JSON, or the objects google-genai has for it; bytes where the API takes base64.
        path: where it belongs; the tables are read by it.
        field: where the caller wrote it, for errors.
        depth: how deep it stands in the request.

    Raises:
        InvalidRequest: it is not JSON or not of its kind, a schema in it is none, or base64 is broken.
    """
    if depth > MAX_DEPTH:
        raise too_deep(field)
    result = _spelled(value, path, field, depth)
    if path in KINDS:
        kind, expected = KINDS[path]
        if type(result) is not kind:
            raise InvalidRequest(field, value, expected)
    return result


def _spelled(value: Any, path: str, field: str, depth: int) -> Any:
    if path in VERBATIM:
        return canonical(value, field, depth)
    if path in SCHEMAS or path in JSON_SCHEMAS:
        return _schema(value, path, field, depth)
    if path.endswith(_BINARY_ENDS):
        return base64_text(value, field)
    value = opened(value)
    if isinstance(value, (dict, Mapping)):  # the first is found much faster
        return _fields(value, path, field, depth)
    if isinstance(value, (list, tuple)):
        return [spelled(item, path, f"{field}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _leaf(value, path, field, depth)


def _fields(fields: Mapping[Any, Any], path: str, field: str, depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in fields.items():
        if value is not None:
            name = camel(sound(key, field))
            if name in result:
                raise InvalidRequest(f"{field}.{key}", value, "this field once, not in two spellings")
            inner = f"{field}.{key}"
            if path == "contents.parts" and name not in PART_FIELDS:
                result[name] = canonical(value, inner, depth + 1)
            else:
                result[name] = spelled(value, f"{path}.{name}", inner, depth + 1)
    return result


def _schema(value: Any, path: str, field: str, depth: int) -> Any:
    if path in JSON_SCHEMAS:
        schema = canonical(value, field, depth)
        check_schema(schema, field)
    else:
        schema = spell_schema(value, field, depth)
        check_spelled_schema(schema, field)
    return schema


def _leaf(value: Any, path: str, field: str, depth: int) -> Any:
    if isinstance(value, dt.datetime):
        return _moment(value, field)
    plain = canonical(value, field, depth)
    if isinstance(plain, str) and path.rpartition(".")[2] in ENUMS and plain.isascii():
        return plain.upper()
    return plain


def base64_text(value: object, field: str) -> str:
    """Return bytes, or base64 of either alphabet, as standard base64; raises InvalidRequest for anything else."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    expected = "bytes, or text in base64"
    if not isinstance(value, str):
        raise InvalidRequest(field, value, expected)
    digits = "".join(value.split()).translate(_URL_SAFE)
    try:
        raw = binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
    except ValueError as error:  # not ASCII, or no base64
        raise InvalidRequest(field, value, expected) from error
    return base64.b64encode(raw).decode()


def _moment(value: dt.datetime, field: str) -> str:
    if value.tzinfo is None:
        raise InvalidRequest(field, value, "a time with its time zone")
    return value.isoformat()
