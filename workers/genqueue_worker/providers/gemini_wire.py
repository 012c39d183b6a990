"""Gemini's stream messages, decoded without the SDK.

What becomes of a part of the first candidate:

- plain text is a `delta`, with `thought: true` a `thought`; empty text says nothing;
- text that carries more (`thoughtSignature`, `partMetadata`) is a `delta` or `thought` and right after it a part about
  the "text" with everything else;
- anything else, empty text that carries more too, is a part, byte for byte as received; what is empty says nothing.

What belongs to the candidate as a whole is a part about the "candidate", what belongs to a refused prompt a part about
the "prompt"; a further candidate is whole in a part about the "candidate", and has an `index`.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of
from genqueue_worker.providers.seam import Chunk, Piece

#: What a candidate tells besides its content.
_CANDIDATE_EXTRAS = frozenset(
    {
        "finishMessage",
        "citationMetadata",
        "groundingMetadata",
        "urlContextMetadata",
        "avgLogprobs",
        "logprobsResult",
        "continuationToken",
    }
)


#: Ends after which the safety ratings, which come with every answer, say nothing.
_HARMLESS = frozenset({None, "STOP", "MAX_TOKENS"})


#: Fields of a part that say nothing without others; an empty text is known to be one.
_IDLE = frozenset({"text", "thought"})


class _Response(msgspec.Struct, rename="camel"):
    candidates: list[Raw] | None = None
    prompt_feedback: Raw | UnsetType = UNSET
    usage_metadata: dict[str, Any] | None = None
    model_version: str | None = None
    error: Raw | UnsetType = UNSET


class _PromptFeedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Content(msgspec.Struct):
    parts: list[Raw] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None


class _PlainText(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    thought: bool | None = None


class _PlainContent(msgspec.Struct, forbid_unknown_fields=True):
    parts: list[_PlainText] | None = None
    role: str | None = None


class _RichText(msgspec.Struct):
    text: str | None = None
    thought: bool | None = None


class _SafetyRating(msgspec.Struct):
    blocked: bool | None = None


class _PlainCandidate(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    content: _PlainContent | None = None
    finish_reason: str | None = None
    index: int | None = None
    safety_ratings: list[_SafetyRating] | None = None


class _PlainResponse(msgspec.Struct, rename="camel"):
    candidates: tuple[_PlainCandidate]
    prompt_feedback: Raw | UnsetType = UNSET
    usage_metadata: dict[str, Any] | None = None
    model_version: str | None = None
    error: Raw | UnsetType = UNSET


_plain_response = msgspec.json.Decoder(_PlainResponse)
_response = msgspec.json.Decoder(_Response)
_feedback = msgspec.json.Decoder(_PromptFeedback | None)
_candidate = msgspec.json.Decoder(_Candidate)
_plain_text = msgspec.json.Decoder(_PlainText)
_rich_text = msgspec.json.Decoder(_RichText)
_list = msgspec.json.Decoder(Annotated[list[Raw], msgspec.Meta(min_length=1)])
_fields = msgspec.json.Decoder(dict[str, Raw])
_ratings = msgspec.json.Decoder(list[_SafetyRating] | None)


def decode_chunk(data: bytes) -> Chunk:
    """Decode one GenerateContentResponse; unknown fields are tolerated.

    Raises:
        ProviderError: the message is an error object, with its code, or no GenerateContentResponse at all
            (`malformed_chunk`, retryable).
    """
    try:
        if (chunk := _plain_chunk(data)) is not None:
            return chunk
        if data[:1] == b"[":  # as errors come when they come as bare JSON
            data = bytes(_list.decode(data)[0])
        return _chunk_of(_response.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"A message of the stream cannot be read ({error})"
        raise ProviderError("malformed_chunk", message, retryable=True) from error


def _plain_chunk(data: bytes) -> Chunk | None:
    """Decode a message of one candidate that has nothing but plain text, as nearly all are, at once; None of others."""
    try:
        response = _plain_response.decode(data)
    except msgspec.ValidationError:
        return None
    (candidate,) = response.candidates
    tells_more = response.error is not UNSET or response.prompt_feedback is not UNSET or candidate.index
    if tells_more or _tells(candidate.safety_ratings or (), candidate.finish_reason):
        return None
    parts = (candidate.content and candidate.content.parts) or ()
    entries = tuple([Piece("thought" if part.thought else "delta", part.text) for part in parts if part.text])
    return Chunk(entries, candidate.finish_reason or None, response.usage_metadata, response.model_version)


def _chunk_of(response: _Response) -> Chunk:
    if response.error is not UNSET:
        raise error_of({"error": msgspec.json.decode(response.error)})
    entries: list[Piece] = []
    finish_reason = None
    for raw in response.candidates or ():
        candidate = _candidate.decode(raw)
        if candidate.index:
            entries.append(Piece("part", json=_text(raw), about="candidate"))
            continue
        finish_reason = candidate.finish_reason or finish_reason
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                entries.extend(_pieces_of(part))
        entries.extend(_extras_of(raw, candidate.finish_reason))
    block_reason = None
    if response.prompt_feedback is not UNSET and (feedback := _feedback.decode(response.prompt_feedback)):
        block_reason = feedback.block_reason
        if block_reason is not None:
            entries.append(Piece("part", json=_text(response.prompt_feedback), about="prompt"))
    return Chunk(tuple(entries), finish_reason, response.usage_metadata, response.model_version, block_reason)


def _pieces_of(part: Raw) -> Iterator[Piece]:
    try:
        plain = _plain_text.decode(part)
    except msgspec.ValidationError:
        yield from _pieces_of_other(part)
    else:
        if plain.text:
            yield Piece("thought" if plain.thought else "delta", plain.text)


def _pieces_of_other(part: Raw) -> Iterator[Piece]:
    rich = _rich_text.decode(part)
    if not rich.text:
        if any(bytes(value) != b"null" for name, value in _fields.decode(part).items() if name not in _IDLE):
            yield Piece("part", json=_text(part))
        return
    yield Piece("thought" if rich.thought else "delta", rich.text)
    rider = _fields.decode(part)
    del rider["text"]
    rider.pop("thought", None)  # said by the kind of the piece
    yield Piece("part", json=msgspec.json.encode(rider).decode(), about="text")


def _extras_of(candidate: Raw, finish_reason: str | None) -> Iterator[Piece]:
    fields = _fields.decode(candidate)
    extras = {name: raw for name, raw in fields.items() if name in _CANDIDATE_EXTRAS and bytes(raw) != b"null"}
    ratings = fields.get("safetyRatings")
    if ratings is not None:
        found = _ratings.decode(ratings) or ()
        if _tells(found, finish_reason):
            extras["safetyRatings"] = ratings
    if extras:
        yield Piece("part", json=msgspec.json.encode(extras).decode(), about="candidate")


def _tells(ratings: Sequence[_SafetyRating], finish_reason: str | None) -> bool:
    """Return whether safety ratings say anything: they come with every answer."""
    return any(rating.blocked for rating in ratings) or (bool(ratings) and finish_reason not in _HARMLESS)


def _text(raw: Raw) -> str:
    return bytes(raw).decode()
