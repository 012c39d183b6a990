"""What an attempt has said so far, and the folded answer it comes to."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from genqueue_worker.providers.seam import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from genqueue.ledger import Entry
    from genqueue_worker.providers.seam import Chunk

#: Finish reasons after which an answer is worth giving again.
CACHEABLE: Final = frozenset({"STOP"})

_USAGE: Final = {
    "prompt_tokens": "promptTokenCount",
    "output_tokens": "candidatesTokenCount",
    "thought_tokens": "thoughtsTokenCount",
    "cached_tokens": "cachedContentTokenCount",
    "total_tokens": "totalTokenCount",
}

#: What a part is about that is none of the model's turn.
REMARKS: Final = frozenset({"candidate", "prompt"})

#: Follows the last piece.
_END: Final = Piece("part")


class Transcript:
    """Folds chunks into entries of the stream, and at the end into the answer.

    Args:
        model: the model asked, until one says that it answers.
        shown: text that earlier attempts said, and from which this one goes on.

    Attributes:
        finish_reason: why the model stopped, once it said so.
        block_reason: why the provider refused the prompt, if it did.
    """

    def __init__(self, model: str, shown: str = "") -> None:
        self.finish_reason: str | None = None
        self.block_reason: str | None = None
        self._model = model
        self._usage: dict[str, Any] = {}
        self._pieces: list[Piece] = [Piece("delta", shown)] if shown else []

    def take(self, chunk: Chunk) -> list[Entry]:
        """Add a chunk and return the stream entries it makes."""
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.block_reason = chunk.block_reason or self.block_reason
        self._usage = chunk.usage or self._usage
        self._model = chunk.model_version or self._model
        self._pieces.extend(chunk.entries)
        return [_entry(piece) for piece in chunk.entries]

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
        return {ours: _count(self._usage.get(theirs)) for ours, theirs in _USAGE.items()}

    def replay(self) -> list[Entry] | None:
        """Return entries that give the same answer again, neighbouring texts joined.

        None for an answer that is not whole, or says nothing: the next one may.
        """
        turn = self._turn()
        if self.finish_reason not in CACHEABLE or not turn:
            return None
        remarks = [piece for piece in self._pieces if piece.about in REMARKS]
        return [_entry(piece) for piece in [*turn, *remarks]]

    def content(self) -> dict[str, Any]:
        """Return the model's turn, Gemini-shaped, with every part the next request must give back as it was."""
        parts: list[dict[str, Any]] = []
        for piece in self._turn():
            match piece.kind, piece.about:
                case "delta", _:
                    parts.append({"text": piece.text})
                case "thought", _:
                    parts.append({"text": piece.text, "thought": True})
                case _, "part":
                    parts.append(msgspec.json.decode(piece.json))
                case _, "text" if parts:
                    parts[-1].update(msgspec.json.decode(piece.json))
        return {"role": "model", "parts": parts}

    def candidate(self) -> dict[str, Any]:
        """Return what was said about the answer as a whole: citations, grounding, safety ratings that count, ..."""
        told: dict[str, Any] = {}
        for remark in self._remarks("candidate"):
            if not remark.get("index"):  # a further candidate is not this answer
                merge(told, remark)
        return told

    def prompt_feedback(self) -> dict[str, Any]:
        """Return why the prompt was blocked; empty when it was not."""
        told: dict[str, Any] = {}
        for remark in self._remarks("prompt"):
            told.update(remark)
        return told

    def _remarks(self, about: str) -> Iterator[dict[str, Any]]:
        for piece in self._pieces:
            if piece.kind == "part" and piece.about == about:
                yield msgspec.json.decode(piece.json)

    def _turn(self) -> list[Piece]:
        """Return the turn's pieces with neighbouring texts made one, but for those that something else belongs to."""
        joined: list[Piece] = []
        run: list[Piece] = []
        pieces = (piece for piece in self._pieces if piece.about not in REMARKS)
        for piece, following in pairwise([*pieces, _END]):
            if run and piece.kind != run[0].kind:
                joined.append(_one(run))
                run = []
            if piece.kind == "part":
                joined.append(piece)
            elif following.about == "text":
                joined += [_one(run), piece] if run else [piece]
                run = []
            else:
                run.append(piece)
        return [*joined, _one(run)] if run else joined


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _one(run: list[Piece]) -> Piece:
    return Piece(run[0].kind, "".join(piece.text for piece in run))


def _entry(piece: Piece) -> Entry:
    if piece.kind == "part":
        return {"type": "part", "about": piece.about, "json": piece.json}
    return {"type": piece.kind, "text": piece.text}


def merge(told: dict[str, Any], further: Mapping[str, Any], *, every: bool = False) -> None:
    """Add what a later message says to what earlier ones said.

    Messages say some things in pieces and some again and again: an item of a list that is there already is not added,
    but for `logprobsResult`, in which equal tokens follow each other.
    """
    for name, value in further.items():
        known = told.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value, every=every or name == "logprobsResult")
        elif isinstance(known, list) and isinstance(value, list):
            known.extend(item for item in value if every or item not in known)
        else:
            told[name] = value
