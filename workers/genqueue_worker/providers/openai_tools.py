"""Gemini's tools and how they are to be called, as OpenAI takes them: functions alone."""

from collections.abc import Mapping
from typing import Any, Final

from genqueue_worker.providers.openai_parts import unsupported
from genqueue_worker.providers.openai_schema import json_schema_of, ordered

_DECLARATIONS: Final = "tools.functionDeclarations"
_CALLING: Final = "toolConfig.functionCallingConfig"

#: Fields of a declaration that can be said.
_SAYABLE: Final = frozenset({"name", "description", "parameters", "parametersJsonSchema"})

_MODES: Final = {"AUTO": "auto", "ANY": "required", "NONE": "none"}


def tools_of(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the functions of all tools; raises ProviderError `unsupported` for tools that are the provider's own."""
    functions = []
    for tool in tools:
        for name, value in tool.items():
            if name != "functionDeclarations" and value is not None:
                raise unsupported(f"tools.{name}")
        functions += [_function(one) for one in tool.get("functionDeclarations") or ()]
    return functions


def tool_choice(tool_config: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """Return the `tool_choice`, None for the default, and the functions to offer, empty for all of them.

    To allow several functions of more is to offer those alone: servers have no common way to say it otherwise.

    Raises:
        ProviderError: `unsupported`.
    """
    for name in tool_config:
        if name != "functionCallingConfig":
            raise unsupported(f"toolConfig.{name}")
    calling = tool_config.get("functionCallingConfig") or {}
    for name, value in calling.items():
        if name not in ("mode", "allowedFunctionNames") and value:
            raise unsupported(f"{_CALLING}.{name}")
    mode, allowed = calling.get("mode", "MODE_UNSPECIFIED"), list(calling.get("allowedFunctionNames") or ())
    if mode == "MODE_UNSPECIFIED":
        return None, frozenset(allowed)
    if mode not in _MODES:
        raise unsupported(f"{_CALLING}.mode {mode}")
    if mode == "ANY" and len(allowed) == 1:
        return {"type": "function", "function": {"name": allowed[0]}}, frozenset()
    return _MODES[mode], frozenset(allowed)


def _function(declared: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in declared.items():
        if name not in _SAYABLE and (name, value) != ("behavior", "BLOCKING") and value is not None:
            raise unsupported(f"{_DECLARATIONS}.{name}")
    function: dict[str, Any] = {"name": declared.get("name", "")}
    if "description" in declared:
        function["description"] = declared["description"]
    if "parametersJsonSchema" in declared:
        function["parameters"] = ordered(declared["parametersJsonSchema"])
    elif "parameters" in declared:
        function["parameters"] = json_schema_of(declared["parameters"])
    return {"type": "function", "function": function}
