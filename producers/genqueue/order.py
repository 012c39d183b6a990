"""The arguments of `submit`, checked and put together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict

from genqueue.errors import InvalidRequest
from genqueue.options import JobOptions, build_options
from genqueue.request.config import field_name, named_fields
from genqueue.request.document import build_request
from genqueue.request.plain import check_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.lanes import Lane
    from genqueue.options import Cache, OnInterrupt, Share, Store


#: Arguments that are neither options nor fields of the configuration.
_REQUEST: Final = frozenset({"config", "messages", "system_instruction"})


class ReplayOptions(TypedDict, total=False):
    """Keyword arguments of `replay`: those of JobOptions, but the tenant and what belongs to the request."""

    lane: Lane | int
    deadline: float | None
    cache: Cache
    share: Share
    idempotency_key: str | None
    job_id: str | None
    on_done: object
    on_interrupt: OnInterrupt
    store: Store
    stream_ttl: float | None
    result_ttl: float | None
    cache_ttl: float | None
    max_tries: int | None
    max_losses: int | None
    traceparent: str | None


class SubmitOptions(ReplayOptions, total=False):
    """Keyword arguments of `submit`: the job's options, and the most used fields of the configuration.

    Every other field of GenerationConfig goes into `config`, or straight in as a keyword too. `config` is a mapping,
    or google-genai's GenerateContentConfig.
    """

    messages: Sequence[object] | None
    system_instruction: object
    config: object
    tenant: str
    residency: Sequence[str] | None
    temperature: float
    top_p: float
    top_k: float
    max_output_tokens: int
    stop_sequences: list[str]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    response_mime_type: str
    response_schema: Any
    response_json_schema: Any
    thinking_config: object
    safety_settings: Sequence[object]
    tools: Sequence[object]
    tool_config: object


@dataclass(frozen=True, slots=True)
class Order:
    """A validated request with its options: all that submit needs.

    Attributes:
        document: the request as canonical JSON.
        schema: what the answer is to be read into: a Python type, or a schema; None without one.
        replayed_from: id of the dead job that this one replays; "" for any other.
    """

    document: bytes
    options: JobOptions
    schema: Any = None
    replayed_from: str = ""


def make_order(contents: object, model: object, arguments: Mapping[str, Any]) -> Order:
    """Return the order for the arguments of `submit`; raises InvalidRequest naming the first one that is wrong."""
    config = named_fields(arguments.get("config"))
    options = {name: arguments[name] for name in JobOptions.model_fields if name in arguments}
    for name, value in arguments.items():
        if name in options or name in _REQUEST:
            continue
        plain = field_name(name)
        if plain is None:
            expected = "a field of JobOptions or GenerationConfig: there is none of this name"
            raise InvalidRequest(name or "submit", value, expected)
        if value is None:
            continue
        if plain in config:
            raise InvalidRequest(name, value, "this field either as a keyword or in config, not in both")
        config[plain] = value
    if options.get("traceparent") is None:
        options["traceparent"] = current_trace()
    checked = build_options(**options)
    request = build_request(
        contents,
        model=model,
        messages=arguments.get("messages"),
        system_instruction=arguments.get("system_instruction"),
        config=config,
        residency=checked.residency,
    )
    document = request.encode()
    if checked.on_interrupt == "continue":
        check_plain(document)
    return Order(document, checked, request.shape)


def order_of(item: object, defaults: Mapping[str, Any]) -> Order:
    """Return the order for an item of `submit_many`; raises InvalidRequest naming the first argument that is wrong."""
    if not isinstance(item, Mapping):
        raise InvalidRequest("items", item, "mappings of submit's arguments: contents, model, ...")
    arguments = {**defaults, **item}
    return make_order(arguments.pop("contents", None), arguments.pop("model", None), arguments)


def current_trace() -> str | None:
    """Return OpenTelemetry's current span as a traceparent, if there is one."""
    # Not imported: without anybody who did, there is no span.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else None
