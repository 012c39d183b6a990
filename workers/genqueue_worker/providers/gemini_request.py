"""A request as one of Gemini's surfaces takes it: the body google-genai sends for the same input.

Our SDK has spelled it (`genqueue.request.spelling`): every name is camelCase, as the REST reference has it, where
google-genai sends snake_case below its first levels; the API reads both. Unknown names below the first level pass: they
are the API's to judge. What only a worker knows is what the surface it asks does not take.
"""

import re
from typing import Any

import msgspec

from genqueue.request.spelling import VERBATIM
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_fields import DEVELOPER, FILE_URIS, Surface
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


def encode_body(request: ProviderRequest, surface: Surface = DEVELOPER) -> bytes:
    """Return the JSON body of a generateContent call.

    Raises:
        ProviderError: `unsupported`, naming a field the surface does not take, or `invalid_request`.
    """
    body: dict[str, Any] = {"contents": request.contents}
    _refuse(request.contents, "contents", surface)
    if request.system_instruction is not None:
        _refuse(request.system_instruction, "contents", surface)
        body["systemInstruction"] = request.system_instruction
    generation: dict[str, Any] = {}
    for name, value in request.config.items():
        if name in surface.generation:
            generation[surface.generation[name]] = _field(name, value, surface)
        elif name in surface.top_level:
            body[surface.top_level[name]] = _field(name, value, surface)
        else:
            raise surface.unsupported(name)
    if generation:
        body["generationConfig"] = generation
    return msgspec.json.encode(body)


def _field(name: str, value: Any, surface: Surface) -> Any:
    if name == "responseSchema":
        return response_schema(value, surface)
    _refuse(value, name, surface)
    return _with_functions_in_one_tool(value) if name == "tools" else value


def _refuse(value: Any, path: str, surface: Surface) -> None:
    """Raise for a field below `path` that the surface does not take."""
    if isinstance(value, list):
        for item in value:
            _refuse(item, path, surface)
    elif isinstance(value, dict) and path not in VERBATIM:
        for name, inner in value.items():
            below = f"{path}.{name}"
            if below in surface.refused:
                raise surface.unsupported(below)
            _refuse(inner, below, surface)
    elif path in FILE_URIS and isinstance(value, str) and surface.foreign_files.match(value):
        raise surface.foreign_file(path)


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
