"""A request as Gemini's Developer API takes it: the body google-genai sends for the same input.

The body differs from the SDK's in spelling alone: below its first levels the SDK sends snake_case, which the API
reads as well (protobuf's JSON form allows both); here every name is camelCase, as the REST reference has it.
Unknown names below the first level pass: they are the API's to judge.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from genqueue_worker.providers import gemini_fields as known
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_schema import response_schema, spell_schema
from genqueue_worker.providers.seam import ProviderRequest
from genqueue_worker.providers.spelling import camel

#: One path segment, optionally in one of the two collections: nothing in it can lead out of the URL's path.
_MODEL_NAME = re.compile(r"(?:(?:models|tunedModels)/)?[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*", re.ASCII)


def model_path(model: str) -> str:
    """Return the model's resource name.

    Raises:
        ProviderError: `invalid_model`, the name could change the URL.
    """
    if not _MODEL_NAME.fullmatch(model):
        message = f"{model!r} is no model name: letters, digits, '.', '_' and '-', after 'models/' or nothing"
        raise ProviderError("invalid_model", message)
    return model if "/" in model else f"models/{model}"


def encode_body(request: ProviderRequest) -> bytes:
    """Return the JSON body of a generateContent call.

    Raises:
        ProviderError: `unsupported_field`, naming a field the Developer API does not take, or `invalid_request`.
    """
    config = _config_of(request)
    body: dict[str, Any] = {"contents": _spelled(request.contents, "contents")}
    generation: dict[str, Any] = {}
    for name, value in config.items():
        if name in known.GENERATION_FIELDS:
            generation[name] = _field(name, value)
        elif name in known.TOP_LEVEL_FIELDS:
            body[name] = _field(name, value)
        elif name not in known.SDK_FIELDS or value != known.SDK_FIELDS[name]:
            raise known.unsupported(name)
    if body.get("tools") == []:
        del body["tools"]
    if config:
        body["generationConfig"] = generation
    return msgspec.json.encode(body)


def _config_of(request: ProviderRequest) -> dict[str, Any]:
    config = {camel(name): value for name, value in request.config.items() if value is not None}
    if request.system_instruction is not None:
        if "systemInstruction" in config:
            message = "The system instruction is given twice: in the request and in its config"
            raise ProviderError("invalid_request", message)
        config["systemInstruction"] = request.system_instruction
    return config


def _field(name: str, value: Any) -> Any:
    if name == "responseSchema" and isinstance(value, dict):
        return response_schema(value)
    if isinstance(value, str):
        value = _completed(name, value)
    spelled = _spelled(value, "contents" if name == "systemInstruction" else name)
    return _with_functions_in_one_tool(spelled) if name == "tools" else spelled


def _completed(name: str, value: str) -> Any:
    """Write out the short forms the SDK takes."""
    match name:
        case "systemInstruction":
            return {"role": "user", "parts": [{"text": value}]}
        case "speechConfig":
            return {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": value}}}
        case "cachedContent":
            return value if "/" in value else f"cachedContents/{value}"
        case "serviceTier":
            return value.lower()
    return value


def _spelled(value: Any, path: str) -> Any:
    """Spell the names below `path`; refuse those the API does not take, leave out what is null."""
    if path in known.VERBATIM:
        return value
    if path in known.SCHEMAS:
        return spell_schema(value)
    if isinstance(value, list):
        return [_spelled(item, path) for item in value]
    if isinstance(value, dict):
        return _spelled_fields(value, path)
    if isinstance(value, str) and path.rpartition(".")[2] in known.ENUMS:
        return value.upper()
    return value


def _spelled_fields(fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    spelled = {}
    for key, value in fields.items():
        if value is None:
            continue
        name = camel(key)
        inner = f"{path}.{name}"
        if inner in known.REFUSED:
            raise known.unsupported(inner)
        spelled[name] = _spelled(value, inner)
    return spelled


def _with_functions_in_one_tool(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gather all function declarations in one last tool: the API refuses several tools that declare functions."""
    functions: list[Any] = []
    others = []
    for tool in tools:
        declared = tool.get("functionDeclarations")
        rest = {name: value for name, value in tool.items() if name != "functionDeclarations"} if declared else tool
        functions.extend(declared or ())
        if rest or not declared:
            others.append(rest)
    return [*others, {"functionDeclarations": functions}] if functions else others
