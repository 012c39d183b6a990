"""Messages of a streamed chat completion, decoded without the openai package."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_errors import error_of

#: Gemini's finish reasons for OpenAI's; every other one is OTHER.
_FINISHES = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "function_call": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}


class Function(msgspec.Struct):
    """A piece of a function's name and arguments; some servers send all of these at once, as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallDelta(msgspec.Struct):
    """A piece of a call; its index says of which."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class ContentPart(msgspec.Struct):
    """A piece of content where that is a list, as of Mistral's models that think: a text, or texts of a thought."""

    text: str | None = None
    thinking: list["ContentPart"] | None = None


class Delta(msgspec.Struct):
    """What a choice says further. Thoughts come under either of two names, which some servers give both."""

    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct):
    """One of the answers asked for; whole in a `message` where a server knows no streams."""

    delta: Delta | None = None
    message: Delta | None = None
    index: int | None = 0
    finish_reason: str | None = None
    logprobs: Raw | UnsetType = UNSET


class Message(msgspec.Struct):
    """One ChatCompletionChunk; where an error stands bare `object` is "error", or there is a `message`."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    model: str | None = None
    error: Raw | UnsetType = UNSET
    object: Any = None
    message: Any = None

    @property
    def is_bare_error(self) -> bool:
        """Whether it is the error itself."""
        return self.object == "error" or (self.choices is None and isinstance(self.message, str))


class _Logprob(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    top_logprobs: list["_Logprob"] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Logprob] | None = None
    refusal: list[_Logprob] | None = None


_message = msgspec.json.Decoder(Message)
_logprobs = msgspec.json.Decoder(_Logprobs | None)
_list = msgspec.json.Decoder(Annotated[list[Raw], msgspec.Meta(min_length=1)])


def decode_message(data: bytes) -> Message:
    """Decode one message; unknown fields are tolerated.

    Raises:
        ProviderError: the message is an error object, with its code, or no ChatCompletionChunk at all
            (`malformed_chunk`, retryable).
    """
    try:
        if data[:1] == b"[":  # as Google's interface of this kind sends errors
            data = bytes(_list.decode(data)[0])
        message = _message.decode(data)
        if message.error is not UNSET or message.is_bare_error:
            _raise_error(data, bare=message.is_bare_error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"A message of the stream cannot be read ({error})"
        raise ProviderError("malformed_chunk", text, retryable=True) from error
    return message


def _raise_error(data: bytes, *, bare: bool) -> None:
    body = msgspec.json.decode(data)
    if body.get("error") or bare:  # `"error": null` says that all is well
        raise error_of(body)


def finish_of(reason: str) -> str:
    """Return Gemini's finish reason for OpenAI's."""
    return _FINISHES.get(reason, "OTHER")


def usage_of(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the usage by Gemini's names, whose candidates' tokens are those of the answer without its thoughts."""
    prompt, total = _count(usage, "prompt_tokens"), _count(usage, "total_tokens")
    thoughts = _count(usage, "completion_tokens_details", "reasoning_tokens")
    cached = _count(usage, "prompt_tokens_details", "cached_tokens")
    total = total or prompt + _count(usage, "completion_tokens")
    counts = {
        "promptTokenCount": prompt,
        # Whether the thoughts are among the completion's tokens differs; the total tells.
        "candidatesTokenCount": max(0, total - prompt - thoughts),
        "totalTokenCount": total,
    }
    if cached:
        counts["cachedContentTokenCount"] = cached
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    return counts


def logprobs_of(raw: Raw) -> dict[str, Any] | None:
    """Return Gemini's `logprobsResult` for the logprobs of a choice; None when there are none, or none we know."""
    try:
        said = _logprobs.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # they are not worth an answer
        return None
    tokens = [*(said.content or ()), *(said.refusal or ())] if said is not None else []
    if not tokens:
        return None
    result: dict[str, Any] = {"chosenCandidates": [_candidate(token) for token in tokens]}
    if any(token.top_logprobs for token in tokens):
        result["topCandidates"] = [{"candidates": [_candidate(one) for one in t.top_logprobs or ()]} for t in tokens]
    return result


def _candidate(token: _Logprob) -> dict[str, Any]:
    return {"token": token.token, "logProbability": token.logprob}


def _count(usage: dict[str, Any], *path: str) -> int:
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
