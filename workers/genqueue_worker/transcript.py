"""What an attempt has said so far, and the folded answer it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from genqueue.ledger import Entry
    from genqueue_worker.providers.seam import Chunk, Piece

#: Finish reasons after which an answer is worth giving again.
CACHEABLE: Final = frozenset({"STOP"})

_USAGE: Final = {
    "prompt_tokens": "promptTokenCount",
    "output_tokens": "candidatesTokenCount",
    "thought_tokens": "thoughtsTokenCount",
    "cached_tokens": "cachedContentTokenCount",
    "total_tokens": "totalTokenCount",
}


class Transcript:
    """Folds chunks into entries of the stream, and at the end into the answer.

    Attributes:
        finish_reason: why the model stopped, once it said so.
        block_reason: why the provider refused the prompt, if it did.
    """

    def __init__(self, model: str) -> None:
        self.finish_reason: str | None = None
        self.block_reason: str | None = None
        self._model = model
        self._usage: dict[str, Any] = {}
        self._pieces: list[Piece] = []

    def take(self, chunk: Chunk) -> list[Entry]:
        """Add a chunk and return the stream entries it makes."""
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.block_reason = chunk.block_reason or self.block_reason
        self._usage = chunk.usage or self._usage
        self._model = chunk.model_version or self._model
        self._pieces.extend(chunk.entries)
        return [_entry(piece.kind, piece.json if piece.kind == "part" else piece.text) for piece in chunk.entries]

    @property
    def model(self) -> str:
        """The model version that answers, as far as it is known."""
        return self._model

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(piece.text for piece in self._pieces if piece.kind == "delta")

    def usage(self) -> dict[str, int]:
        """Return the tokens counted, by our names."""
        return {ours: int(self._usage.get(theirs) or 0) for ours, theirs in _USAGE.items()}

    def replay(self) -> list[Entry] | None:
        """Return entries that give the same answer again, neighbouring texts joined; None for an unfinished one."""
        if self.finish_reason not in CACHEABLE:
            return None
        return [_entry(kind, value) for kind, value in self._joined()]

    def content(self) -> dict[str, Any]:
        """Return the model's turn, Gemini-shaped."""
        parts: list[dict[str, Any]] = []
        for kind, value in self._joined():
            match kind:
                case "delta":
                    parts.append({"text": value})
                case "thought":
                    parts.append({"text": value, "thought": True})
                case _:
                    part = msgspec.json.decode(value)
                    if "candidate" not in part:  # remarks on the whole candidate are no part of the turn
                        parts.append(part)
        return {"role": "model", "parts": parts}

    def _joined(self) -> list[tuple[str, str]]:
        runs: list[tuple[str, list[str]]] = []
        for piece in self._pieces:
            value = piece.json if piece.kind == "part" else piece.text
            if runs and piece.kind != "part" and runs[-1][0] == piece.kind:
                runs[-1][1].append(value)
            else:
                runs.append((piece.kind, [value]))
        return [(kind, "".join(values)) for kind, values in runs]


def _entry(kind: str, value: str) -> Entry:
    return {"type": kind, "json" if kind == "part" else "text": value}
