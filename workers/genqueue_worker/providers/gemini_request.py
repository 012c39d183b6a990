"""A request as Gemini's Developer API takes it: the body google-genai sends for the same input.

Our SDK has spelled it (`genqueue.request.spelling`): every name is camelCase, as the REST reference has it, where
google-genai sends snake_case below its first levels; the API reads both. Unknown names below the first level pass: they
are the API's to judge. What only a worker knows is what the Developer API does not take.
"""

import re
from typing import Any

import msgspec

from genqueue.request.spelling import VERBATIM
from genqueue_worker.providers import gemini_fields as known
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_schema import response_schema
from genqueue_worker.providers.seam import ProviderRequest

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
    body: dict[str, Any] = {"contents": request.contents}
    _refuse(request.contents, "contents")
    if request.system_instruction is not None:
        _refuse(request.system_instruction, "contents")
        body["systemInstruction"] = request.system_instruction
    generation: dict[str, Any] = {}
    for name, value in request.config.items():
        if name in known.GENERATION_FIELDS:
            generation[name] = _field(name, value)
        elif name in known.TOP_LEVEL_FIELDS:
            body[name] = _field(name, value)
        else:
            raise known.unsupported(name)
    if generation:
        body["generationConfig"] = generation
    return msgspec.json.encode(body)


def _field(name: str, value: Any) -> Any:
    if name == "responseSchema":
        return response_schema(value)
    _refuse(value, name)
    return _with_functions_in_one_tool(value) if name == "tools" else value


def _refuse(value: Any, path: str) -> None:
    """Raise for a field below `path` that the API does not take."""
    if isinstance(value, list):
        for item in value:
            _refuse(item, path)
    elif isinstance(value, dict) and path not in VERBATIM:
        for name, inner in value.items():
            below = f"{path}.{name}"
            if below in known.REFUSED:
                raise known.unsupported(below)
            _refuse(inner, below)


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
