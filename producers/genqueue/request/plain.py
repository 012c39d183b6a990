"""Requests that a model can be asked to go on with: plain text in, plain text out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Fields of a part that is text, with what comes back of a model's own turn.
_TEXT: Final = frozenset({"text", "thought", "thoughtSignature"})

#: Fields of the configuration that ask for something else than text, whatever they say.
_OTHER: Final = ("tools", "responseSchema", "responseJsonSchema")


def check_plain(document: bytes) -> None:
    """Raise InvalidRequest for `on_interrupt` "continue" unless a canonical request asks for text with text."""
    request = json.loads(document)
    reason = next(_reasons(request), None)
    if reason is not None:
        expected = f"'restart' or 'fail' for this request: only plain text can be gone on with, and {reason}"
        raise InvalidRequest("on_interrupt", "continue", expected)


def _reasons(request: Mapping[str, Any]) -> Iterator[str]:
    turns = [("contents", turn) for turn in request["contents"]]
    if "system_instruction" in request:
        turns.append(("system_instruction", request["system_instruction"]))
    for field, turn in turns:
        for part in turn.get("parts", ()):
            if "text" not in part or not _TEXT.issuperset(part):
                yield f"{field} has a part with {', '.join(sorted(set(part) - _TEXT)) or 'no text'}"
    config = request.get("config", {})
    yield from (f"config.{name} is set" for name in _OTHER if name in config)
    if config.get("responseMimeType", "text/plain") != "text/plain":
        yield f"config.responseMimeType is {config['responseMimeType']}"
    if {str(one).upper() for one in config.get("responseModalities", ())} - {"TEXT"}:
        yield "config.responseModalities has more than TEXT"
    if config.get("candidateCount", 1) > 1:
        yield "config.candidateCount is over 1"
