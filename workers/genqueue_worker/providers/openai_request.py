"""A request as an OpenAI-compatible chat completions API takes it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_messages import messages_of
from genqueue_worker.providers.openai_parts import detail_of, unsupported
from genqueue_worker.providers.openai_schema import json_schema_of, ordered, strictly
from genqueue_worker.providers.openai_tools import tool_choice, tools_of
from genqueue_worker.providers.seam import ProviderRequest

#: Fields with the same meaning and another name.
_RENAMED: Final = {
    "temperature": "temperature",
    "topP": "top_p",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "candidateCount": "n",
    "store": "store",
}

#: Stop sequences OpenAI takes; Gemini takes five.
_MOST_STOPS: Final = 4

_TIERS: Final = {"flex": "flex", "standard": "default", "priority": "priority", "unspecified": None}

#: Reasoning efforts by thinking level, and the largest thinking budget, in tokens, of each: Google's own figures.
_LEVELS: Final = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}
_BUDGETS: Final = ((0, "none"), (1024, "low"), (8192, "medium"))

#: Hosts, with what is before them, of OpenAI itself and of those who run its models with the same interface.
_OPENAI: Final = ("api.openai.com", ".openai.com", ".openai.azure.com", ".services.ai.azure.com")

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")

#: How a server says that it does not know a field, as far as their ways agree.
_UNKNOWN: Final = re.compile(
    rb"unsupported|not supported|unknown|unrecogni[sz]ed|not permitted|extra[ _]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What servers that speak OpenAI's language say differently.

    Attributes:
        limit: what bounds the tokens of an answer; the older name is known to most, the newer one to OpenAI's latest
            models alone.
        counts: whether usage is asked for; nothing else brings it into a stream.
        hides_thoughts: whether thoughts never come.
        signs: whether thought signatures go back.
    """

    limit: str = "max_tokens"
    counts: bool = True
    hides_thoughts: bool = False
    signs: bool = False

    @classmethod
    def of(cls, base_url: str) -> "Dialect":
        """Return the dialect to begin with, by a server's address."""
        host = urlsplit(base_url).hostname or ""
        if f".{host}".endswith(_OPENAI):
            return cls(limit="max_completion_tokens", hides_thoughts=True)
        return cls(signs=host.endswith("googleapis.com"))

    def after(self, refusal: ProviderError) -> "Dialect":
        """Return the dialect to try after a refusal: without the field that was not known; the same one otherwise."""
        if refusal.status not in (400, 422) or not _UNKNOWN.search(f"{refusal.code} {refusal.message}".encode()):
            return self
        if self.counts and "stream_options" in refusal.message:
            return replace(self, counts=False)
        if "max_tokens" in refusal.message or "max_completion_tokens" in refusal.message:
            other = "max_completion_tokens" if self.limit == "max_tokens" else "max_tokens"
            return replace(self, limit=other)
        return self


def encode_body(request: ProviderRequest, dialect: Dialect) -> bytes:
    """Return the JSON body of a streamed chat completion.

    Raises:
        ProviderError: `unsupported`, naming the field that cannot be said.
    """
    config = request.config
    resolution = config.get("mediaResolution")
    detail = None if resolution is None else detail_of(resolution, "mediaResolution")
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages_of(request, detail, signatures=dialect.signs),
        "stream": True,
    }
    if dialect.counts:
        body["stream_options"] = {"include_usage": True}
    for name, value in config.items():
        if name in _RENAMED:
            body[_RENAMED[name]] = value
        elif name not in _READ_TOGETHER:
            body |= _field(name, value, config, dialect)
    return msgspec.json.encode(body)


def _field(name: str, value: Any, config: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    if name == "maxOutputTokens":
        return {dialect.limit: value}
    if name == "thinkingConfig":
        return _thinking(value, dialect)
    if name not in _WRITERS:
        raise unsupported(name)
    return _WRITERS[name](value, config)


def _stops(stops: list[str], _: Mapping[str, Any]) -> dict[str, Any]:
    if len(stops) > _MOST_STOPS:
        raise unsupported(f"stopSequences of more than {_MOST_STOPS}", "leave some out, or ask a Gemini model")
    return {"stop": stops}


def _logprobs(_: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    if not config.get("responseLogprobs"):
        return {}
    most = config.get("logprobs")
    return {"logprobs": True} if most is None else {"logprobs": True, "top_logprobs": most}


def _tier(tier: str, _: Mapping[str, Any]) -> dict[str, Any]:
    if tier not in _TIERS:
        raise unsupported(f"serviceTier {tier}")
    return {} if _TIERS[tier] is None else {"service_tier": _TIERS[tier]}


def _modalities(modalities: list[str], _: Mapping[str, Any]) -> dict[str, Any]:
    for modality in modalities:
        if modality != "TEXT":
            raise unsupported(f"responseModalities {modality}")
    return {}


def _thinking(thinking: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    for name in thinking:
        if name not in ("includeThoughts", "thinkingBudget", "thinkingLevel"):
            raise unsupported(f"thinkingConfig.{name}")
    if thinking.get("includeThoughts") and dialect.hides_thoughts:
        raise unsupported("thinkingConfig.includeThoughts: its thoughts are not shown")
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level not in (None, "THINKING_LEVEL_UNSPECIFIED"):
        if level not in _LEVELS:
            raise unsupported(f"thinkingConfig.thinkingLevel {level}")
        return {"reasoning_effort": _LEVELS[level]}
    if budget is None or budget < 0:  # as the model sees fit
        return {}
    return {"reasoning_effort": next((effort for most, effort in _BUDGETS if budget <= most), "high")}


def _format(_: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of the answer, of which up to three fields speak."""
    kind = config.get("responseMimeType", "application/json")
    schema: Any = None
    name = "responseMimeType"
    if "responseJsonSchema" in config:
        name, schema = "responseJsonSchema", ordered(config["responseJsonSchema"])
    elif "responseSchema" in config:
        name, schema = "responseSchema", json_schema_of(config["responseSchema"])
    if kind == "text/plain" and schema is None:
        return {}
    if kind != "application/json":
        raise unsupported(f"responseMimeType {kind}")
    if schema is None or schema is True:
        return {"response_format": {"type": "json_object"}}
    if not isinstance(schema, dict):
        raise unsupported(f"{name} {schema!r}")
    strict = strictly(schema)
    said = {"name": _schema_name(schema), "strict": strict is not None, "schema": strict or schema}
    return {"response_format": {"type": "json_schema", "json_schema": said}}


def _schema_name(schema: Mapping[str, Any]) -> str:
    title = schema.get("title")
    return (_NO_NAME.sub("_", title).strip("_") if isinstance(title, str) else "")[:64] or "answer"


def _tools(tools: list[dict[str, Any]], config: Mapping[str, Any]) -> dict[str, Any]:
    calling = config.get("toolConfig", {})
    functions = tools_of(tools)
    choice, allowed = tool_choice(calling)
    if allowed:
        functions = [one for one in functions if one["function"]["name"] in allowed]
    return {"tools": functions} if choice is None else {"tools": functions, "tool_choice": choice}


def _calling(calling: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    if "tools" not in config:
        tool_choice(calling)  # without tools there is nothing to choose; what cannot be said is refused all the same
    return {}


#: Fields of which others speak: nothing is said of them alone.
_READ_TOGETHER: Final = frozenset({"mediaResolution"})

_WRITERS: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], dict[str, Any]]]] = {
    "stopSequences": _stops,
    "responseLogprobs": _logprobs,
    "logprobs": _logprobs,
    "serviceTier": _tier,
    "responseModalities": _modalities,
    "responseMimeType": _format,
    "responseSchema": _format,
    "responseJsonSchema": _format,
    "tools": _tools,
    "toolConfig": _calling,
}
