"""The models the emulator knows, as the API lists them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from genqueue_lab.emulator.errors import GoogleError, invalid

#: Models on a page when the client does not say, and at most.
PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

_METHODS = ["generateContent", "countTokens"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model's entry in the catalog; limits are in tokens."""

    id: str
    display_name: str
    version: str
    description: str
    input_limit: int = 1_048_576
    output_limit: int = 65_536
    thinking: bool = True

    @property
    def signs_calls(self) -> bool:
        """Whether function calls carry a thought signature that the next turn must return."""
        return self.id.startswith("gemini-3")

    def entry(self) -> dict[str, Any]:
        """Return the model as the API describes it."""
        entry: dict[str, Any] = {
            "name": f"models/{self.id}",
            "version": self.version,
            "displayName": self.display_name,
            "description": self.description,
            "inputTokenLimit": self.input_limit,
            "outputTokenLimit": self.output_limit,
            "supportedGenerationMethods": _METHODS,
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
            "maxTemperature": 2,
        }
        if self.thinking:
            entry["thinking"] = True
        return entry


_KNOWN = (
    Model("gemini-3-pro-preview", "Gemini 3 Pro Preview", "3-pro-preview-11-2025", "Gemini 3 Pro Preview"),
    Model("gemini-3-flash-preview", "Gemini 3 Flash Preview", "3-flash-preview-12-2025", "Gemini 3 Flash Preview"),
    Model("gemini-2.5-pro", "Gemini 2.5 Pro", "2.5", "Stable release of Gemini 2.5 Pro"),
    Model("gemini-2.5-flash", "Gemini 2.5 Flash", "001", "Stable version of Gemini 2.5 Flash"),
    Model("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite", "001", "Stable version of Gemini 2.5 Flash-Lite"),
    Model("gemini-2.0-flash", "Gemini 2.0 Flash", "2.0", "Gemini 2.0 Flash", 1_048_576, 8192, thinking=False),
    Model("gemini-2.0-flash-lite", "Gemini 2.0 Lite", "2.0", "Gemini 2.0 Lite", 1_048_576, 8192, thinking=False),
)

MODELS = {model.id: model for model in _KNOWN}


def describe(model_id: str, version: str) -> dict[str, Any]:
    """Return one model's entry; raises GoogleError when there is no such model."""
    if model_id not in MODELS:
        raise GoogleError("NOT_FOUND", f"Model is not found: models/{model_id} for api version {version}")
    return MODELS[model_id].entry()


def page(query: dict[str, str]) -> dict[str, Any]:
    """Return one page of the catalog; raises GoogleError for a size or token that is no such thing."""
    try:
        size = int(query.get("pageSize") or PAGE_SIZE)
    except ValueError as error:
        raise invalid(f"Invalid value at 'page_size' (TYPE_INT32), \"{query['pageSize']}\"") from error
    if size < 0:
        raise invalid("* ListModelsRequest.page_size: page_size must be non-negative.\n")
    start = _offset(query.get("pageToken", ""))
    end = start + min(size or PAGE_SIZE, MAX_PAGE_SIZE)
    listed: dict[str, Any] = {"models": [model.entry() for model in _KNOWN[start:end]]}
    if end < len(_KNOWN):
        listed["nextPageToken"] = base64.urlsafe_b64encode(f"models:{end}".encode()).decode()
    return listed


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        kind, _, offset = base64.urlsafe_b64decode(token).decode().partition(":")
        if kind == "models" and 0 < int(offset) < len(_KNOWN):
            return int(offset)
    except (binascii.Error, ValueError):
        pass
    raise invalid("Invalid page token.")
