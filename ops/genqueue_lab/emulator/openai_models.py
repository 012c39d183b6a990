"""The models the emulator offers as OpenAI, as that API lists them."""

from __future__ import annotations

from typing import Any

from genqueue_lab.emulator.catalog import Model
from genqueue_lab.emulator.openai_errors import unknown_model

#: When a model was made, in Unix seconds: all at once, here.
CREATED = 1_744_316_542

#: Who thinks without showing it, and takes the newer name of the token limit alone; and who shows it.
_HIDDEN = ("gpt-5", "gpt-5-mini", "o3", "o4-mini")
_SHOWN = ("deepseek-reasoner",)
_PLAIN = ("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini")


def _model(name: str, *, thinking: bool) -> Model:
    return Model(name, name, name, name, input_limit=1_047_576, output_limit=32_768, thinking=thinking)


CHAT_MODELS = {
    **{name: _model(name, thinking=False) for name in _PLAIN},
    **{name: _model(name, thinking=True) for name in (*_HIDDEN, *_SHOWN)},
}


def hides_thoughts(model: Model) -> bool:
    """Whether a model thinks without showing it."""
    return model.id in _HIDDEN


def describe(name: str) -> dict[str, Any]:
    """Return one model's entry; raises ChatError when there is no such model."""
    if name not in CHAT_MODELS:
        raise unknown_model(name)
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}


def listed() -> dict[str, Any]:
    """Return all models."""
    return {"object": "list", "data": [describe(name) for name in CHAT_MODELS]}
