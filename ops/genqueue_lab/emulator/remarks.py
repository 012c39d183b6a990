"""What the emulated model says besides its words: citations, sources, safety ratings, and refused prompts.

A prompt asks for them in words: "cite https://example.com/a" has the answer cite that page, "stop for safety" has it
end in the middle, and "block this prompt" has the prompt refused. The tool `googleSearch` makes an answer grounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genqueue_lab.emulator.requests import GenerateRequest

_CITE = re.compile(r"\bcite\s+(https?://\S*\w)", re.IGNORECASE)
_UNSAFE = re.compile(r"\bstop for safety\b", re.IGNORECASE)
_BLOCKED = re.compile(r"\bblock this prompt\b", re.IGNORECASE)
_CATEGORY = "HARM_CATEGORY_DANGEROUS_CONTENT"


def is_unsafe(request: GenerateRequest) -> bool:
    """Whether the answer is to end for safety."""
    return bool(_UNSAFE.search(request.last_text))


def is_blocked(request: GenerateRequest) -> bool:
    """Whether the prompt is to be refused."""
    return bool(_BLOCKED.search(request.last_text))


def prompt_feedback() -> dict[str, Any]:
    """Return what is said of a refused prompt."""
    ratings = [{"category": _CATEGORY, "probability": "HIGH", "blocked": True}]
    return {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": ratings}


def remarks(request: GenerateRequest, length: int, finish_reason: str) -> dict[str, Any]:
    """Return what the last chunk's candidate says about an answer of `length` characters."""
    said: dict[str, Any] = {}
    if cited := _CITE.findall(request.last_text):
        sources = [{"startIndex": 0, "endIndex": length, "uri": uri, "license": "mit"} for uri in cited]
        said["citationMetadata"] = {"citationSources": sources}
    if request.searches:
        said["groundingMetadata"] = {
            "webSearchQueries": [request.last_text[:40]],
            "groundingChunks": [{"web": {"uri": "https://example.com/source", "title": "example.com"}}],
            "groundingSupports": [{"segment": {"endIndex": length}, "groundingChunkIndices": [0]}],
        }
    if finish_reason == "SAFETY":
        said["safetyRatings"] = [{"category": _CATEGORY, "probability": "HIGH", "blocked": True}]
    return said
