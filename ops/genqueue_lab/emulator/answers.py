"""What the emulated model says: the same request always gets the same answer."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from genqueue_lab.emulator.remarks import is_blocked, is_unsafe, prompt_feedback, remarks
from genqueue_lab.emulator.samples import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genqueue_lab.emulator.catalog import Model
    from genqueue_lab.emulator.options import Pace
    from genqueue_lab.emulator.requests import GenerateRequest

Part = dict[str, Any]

#: Characters of JSON that are sent as one token.
JSON_TOKEN = 4

#: Tokens an image counts for.
IMAGE_TOKENS = 1290

#: A transparent pixel, as PNG in base64.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

#: Answers that are kept.
KEPT = 64

_ORDERED = msgspec.json.Encoder(order="sorted")
_LATEST: dict[tuple[bytes, str, Pace], Answer] = {}
_CALL = re.compile(r"\bcall\s+([\w.:-]+)", re.IGNORECASE)
_VOCABULARY = """
    the a every one some this that each river mountain harbour garden window letter morning evening winter summer
    light shadow paper silver copper distant quiet gentle early ancient bright narrow open slow steady careful
    traveller sailor baker teacher gardener painter child neighbour captain crosses follows carries watches builds
    remembers answers opens gathers measures paints writes and but while before after because until near beyond
    under above across toward without between bridge road valley forest island village market station library
    kitchen table lantern map clock bell song story question promise reason answer north south east west home
"""
_WORDS = _VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer and how many tokens it counts for."""

    part: Part
    tokens: int = 1

    @property
    def thought(self) -> bool:
        """Whether the part is a thought."""
        return bool(self.part.get("thought"))


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer, piece by piece, and why it ends.

    Attributes:
        remarks: what the candidate says about it in the last chunk.
        prompt_feedback: why there is none; None for an answer.
    """

    pieces: list[Piece]
    finish_reason: str
    remarks: dict[str, Any] = field(default_factory=dict)
    prompt_feedback: dict[str, Any] | None = None


def compose(request: GenerateRequest, model: Model, pace: Pace) -> Answer:
    """Return the answer to a request; the latest ones are kept, for a long one takes milliseconds."""
    key = (_ORDERED.encode(request), model.id, pace)
    if (known := _LATEST.get(key)) is None:
        known = _LATEST[key] = _composed(request, model, pace)
        if len(_LATEST) > KEPT:
            del _LATEST[next(iter(_LATEST))]
    return known


def _composed(request: GenerateRequest, model: Model, pace: Pace) -> Answer:
    """Return the answer to a request: thoughts if asked for, then a function call, JSON, or words and an image.

    An answer of the model's own that was cut off, in the turn before the last, is continued where it ends.
    """
    if (rest := _continued(request, model, pace)) is not None:
        return rest
    if is_blocked(request):
        return Answer([], "", prompt_feedback=prompt_feedback())
    source = random.Random(_seed(request))  # noqa: S311 - words, not secrets
    limit = min(request.config.get("maxOutputTokens", model.output_limit), model.output_limit)
    if (function := _called(request)) is not None:
        body = iter([_call_piece(function, model, source)])
    elif request.config.get("responseMimeType") == "application/json":
        body = _json_pieces(request.config, source)
    else:
        body = itertools.chain(_word_pieces(request, pace.tokens, source), _image(request))
    pieces = list(itertools.islice(itertools.chain(_thoughts(request, model, pace, source), body), limit + 1))
    reason = "STOP"
    if is_unsafe(request):
        pieces, reason = pieces[: len(pieces) // 2], "SAFETY"
    elif len(pieces) > limit:
        pieces, reason = pieces[:limit], "MAX_TOKENS"
    elif model.signs_calls and any(piece.thought for piece in pieces):
        pieces = _signed(pieces)
    length = sum(len(piece.part.get("text", "")) for piece in pieces if not piece.thought)
    return Answer(pieces, reason, remarks(request, length, reason))


def _continued(request: GenerateRequest, model: Model, pace: Pace) -> Answer | None:
    """Return what is missing of an answer whose beginning is the turn before the last; None when none is missing."""
    *before, shown, last = request.contents if len(request.contents) > 1 else ({}, {})
    if not before or (shown.get("role"), last.get("role", "user")) != ("model", "user"):
        return None
    text = "".join(part.get("text", "") for part in shown["parts"])
    whole = compose(dataclasses.replace(request, contents=before), model, pace)
    if not text or any(piece.part.keys() - {"text", "thought"} for piece in whole.pieces):
        return None
    said = "".join(piece.part["text"] for piece in whole.pieces if not piece.thought)
    if len(text) >= len(said) or not said.startswith(text):
        return None
    return dataclasses.replace(whole, pieces=list(_behind(whole.pieces, len(text))))


def _behind(pieces: list[Piece], length: int) -> Iterator[Piece]:
    """Yield the pieces without thoughts and without the first so many characters of text."""
    for piece in pieces:
        if piece.thought:
            continue
        text = piece.part["text"]
        if length < len(text):
            yield Piece({"text": text[length:]}, piece.tokens)
        length = max(0, length - len(text))


def _signed(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces with a signature on the last text, which stands for the thoughts before it."""
    *rest, last = pieces
    if "text" not in last.part or last.thought:
        return pieces
    return [*rest, Piece({**last.part, "thoughtSignature": _signature(last.part)}, last.tokens)]


def _signature(part: Part) -> str:
    return hashlib.sha256(_ORDERED.encode(part)).hexdigest()  # which is base64 too


def _image(request: GenerateRequest) -> Iterator[Piece]:
    if "IMAGE" in request.config.get("responseModalities", ()):
        yield Piece({"inlineData": {"mimeType": "image/png", "data": PIXEL}}, tokens=IMAGE_TOKENS)


def _seed(request: GenerateRequest) -> bytes:
    said = _ORDERED.encode([request.contents, request.system_instruction])
    return hashlib.blake2b(said, digest_size=8).digest()


def _sentences(source: random.Random) -> Iterator[str]:
    """Yield words for ever, as sentences of 6 to 14 words; every word but the first starts with a space."""
    space = ""
    while True:
        last = source.randrange(5, 14)
        for index in range(last + 1):
            word = source.choice(_WORDS)
            yield space + (word.capitalize() if index == 0 else word) + ("." if index == last else "")
            space = " "


def _word_pieces(request: GenerateRequest, count: int, source: random.Random) -> Iterator[Piece]:
    words = list(itertools.islice(_sentences(source), count))
    for word in _until_stop(words, request.config.get("stopSequences", [])):
        yield Piece({"text": word})


def _until_stop(words: list[str], stops: list[str]) -> Iterator[str]:
    """Yield the words up to the first stop sequence, which is not part of the answer."""
    text = "".join(words)
    rest = min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))
    for word in words:
        if rest > 0:
            yield word[:rest]
        rest -= len(word)


def _thoughts(request: GenerateRequest, model: Model, pace: Pace, source: random.Random) -> Iterator[Piece]:
    thinking = request.config.get("thinkingConfig", {})
    if not (model.thinking and thinking.get("includeThoughts")):
        return
    budget = thinking.get("thinkingBudget", -1)
    count = pace.thoughts if budget < 0 else min(pace.thoughts, budget)
    for word in itertools.islice(_sentences(source), count):
        yield Piece({"text": word, "thought": True})


def _json_pieces(config: dict[str, Any], source: random.Random) -> Iterator[Piece]:
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    value = Sampler(schema, _writer(source)).value() if schema else {"answer": _writer(source)(60)}
    text = msgspec.json.encode(value).decode()
    for start in range(0, len(text), JSON_TOKEN):
        yield Piece({"text": text[start : start + JSON_TOKEN]})


def _writer(source: random.Random) -> Callable[[int], str]:
    """Return a function that writes whole words, at least so many characters."""

    def write(length: int) -> str:
        text = ""
        for word in _sentences(source):
            if len(text) >= length:
                break
            text += word
        return text

    return write


def _called(request: GenerateRequest) -> dict[str, Any] | None:
    """Return the declared function that the last turn asks for with "call <name>", or that the mode ANY asks for."""
    mode = request.calling.get("mode", "AUTO").upper()
    asks = request.contents[-1].get("role", "user") == "user" and request.last_text
    if mode == "NONE" or not asks:
        return None
    allowed = request.calling.get("allowedFunctionNames")
    functions = {one.get("name"): one for one in request.functions if not allowed or one.get("name") in allowed}
    for name in _CALL.findall(request.last_text):
        if (function := functions.get(name.rstrip(".:"))) is not None:
            return function
    return next(iter(functions.values()), None) if mode == "ANY" else None


def _call_piece(function: dict[str, Any], model: Model, source: random.Random) -> Piece:
    schema = function.get("parametersJsonSchema") or function.get("parameters") or {"type": "object"}
    arguments = Sampler(schema, _writer(source)).value()
    part: Part = {"functionCall": {"name": function["name"], "args": arguments}}
    if model.signs_calls:
        part["thoughtSignature"] = _signature(part)
    return Piece(part, tokens=max(1, len(msgspec.json.encode(part)) // JSON_TOKEN))
