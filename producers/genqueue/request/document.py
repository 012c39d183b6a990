"""What to generate: `GenerateRequest`, validated before anything is queued."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import encode
from genqueue.request.config import GenerationConfig, build_config, named_fields
from genqueue.request.contents import contents_of, inline_parts, instruction_of
from genqueue.request.messages import contents_of_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Version of the request document.
VERSION: Final = 1

#: Largest request, in bytes of canonical JSON (about two million tokens of text).
MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:-]{0,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to generate, in one spelling: equal meaning is an equal value.

    Attributes:
        model: the provider's model name, e.g. "gemini-3-pro-preview".
        contents: Gemini's turns, in the REST spelling.
        system_instruction: Gemini-shaped, without a role.
        config: see GenerationConfig.
        residency: regions it may be sent to, sorted; empty for any.
        shape: what the answer is to be read into: a Python type or a schema; None without one.
    """

    model: str
    contents: list[dict[str, Any]]
    system_instruction: dict[str, Any] | None = None
    config: GenerationConfig = field(default_factory=GenerationConfig)
    residency: tuple[str, ...] = ()
    shape: Any = field(default=None, compare=False)

    def encode(self) -> bytes:
        """Return the canonical document: equal requests give equal bytes; raises InvalidRequest when too large.

        Inline data is not counted: where it is kept, and how much of it, is a matter of the settings.
        """
        document: dict[str, Any] = {
            "v": VERSION,
            "model": self.model,
            "contents": self.contents,
            "config": self.config.document(),
        }
        if self.system_instruction is not None:
            document["system_instruction"] = self.system_instruction
        if self.residency:
            document["residency"] = list(self.residency)
        encoded = encode(document)
        if len(encoded) <= MAX_REQUEST_BYTES:
            return encoded
        inline = inline_parts(self.contents, self.system_instruction)
        size = len(encoded) - sum(len(part["inlineData"].get("data", "")) for _, part in inline)
        if size > MAX_REQUEST_BYTES:
            raise InvalidRequest("contents", f"{size} bytes", f"at most {MAX_REQUEST_BYTES} bytes")
        return encoded


def build_request(
    contents: object = None,
    *,
    model: object,
    messages: object = None,
    system_instruction: object = None,
    config: object = None,
    residency: Sequence[str] | None = None,
) -> GenerateRequest:
    """Return a validated request.

    Args:
        contents: a text, a list of texts and parts (one user turn), or Gemini-shaped contents, as mappings or as
            google-genai's objects.
        model: the provider's model name.
        messages: OpenAI's chat messages, instead of contents.
        system_instruction: a text or Gemini-shaped content; may stand in the config or the messages too.
        config: a mapping with GenerationConfig's fields, or google-genai's GenerateContentConfig.
        residency: checked names of regions.

    Raises:
        InvalidRequest: naming the first field that is wrong.
    """
    name = _model(model)
    if (contents is None) == (messages is None):
        raise InvalidRequest("contents", contents, "either contents or messages")
    configured = build_config(named_fields(config))
    if messages is None:
        turns, told = contents_of(contents), None
    else:
        turns, told = contents_of_messages(messages)
    instructions = [one for one in (system_instruction, configured.system_instruction, told) if one is not None]
    if len(instructions) > 1:
        expected = "one system instruction: as an argument, in config or in messages"
        raise InvalidRequest("system_instruction", instructions[0], expected)
    return GenerateRequest(
        model=name,
        contents=turns,
        system_instruction=instruction_of(instructions[0]) if instructions else None,
        config=configured.config,
        residency=tuple(sorted(residency or ())),
        shape=configured.shape,
    )


def _model(value: object) -> str:
    expected = "a model's name, like gemini-3-pro-preview"
    if not isinstance(value, str) or not _MODEL.fullmatch(value):
        raise InvalidRequest("model", value, expected)
    if {"", ".", ".."} & set(value.split("/")) or ".." in value:
        raise InvalidRequest("model", value, expected)
    return str.__str__(value).removeprefix("models/")
