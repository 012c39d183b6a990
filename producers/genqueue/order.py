"""The arguments of `submit`, checked and put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from genqueue.errors import InvalidRequest
from genqueue.request import GenerationConfig, JobOptions, build_options, build_request

if TYPE_CHECKING:
    from genqueue.lanes import Lane
    from genqueue.request import Cache, Share


class SubmitOptions(TypedDict, total=False):
    """Keyword arguments of `submit`: the job's options, and the most used fields of the configuration.

    Every other field of GenerationConfig goes into `config`, or straight in as a keyword too.
    """

    system_instruction: object
    config: Mapping[str, Any] | None
    lane: Lane | int
    tenant: str
    deadline: float | None
    cache: Cache
    share: Share
    temperature: float
    top_p: float
    top_k: float
    max_output_tokens: int
    stop_sequences: list[str]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    response_mime_type: str
    response_schema: dict[str, Any]
    response_json_schema: Any
    thinking_config: dict[str, Any]
    safety_settings: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tool_config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """A validated request with its options: all that submit needs.

    Attributes:
        document: the request as canonical JSON.
    """

    document: bytes
    options: JobOptions


def make_order(contents: object, model: str, arguments: Mapping[str, Any]) -> Order:
    """Return the order for the arguments of `submit`; raises InvalidRequest naming the first one that is wrong."""
    config = _fields(arguments.get("config"))
    options = {name: arguments[name] for name in JobOptions.model_fields if name in arguments}
    for name in arguments:
        if name in options or name in {"config", "system_instruction"}:
            continue
        if name not in GenerationConfig.model_fields:
            raise InvalidRequest(name, arguments[name], "no such argument; see JobOptions and GenerationConfig")
        if name in config:
            raise InvalidRequest(name, arguments[name], "this field either as a keyword or in config, not in both")
        config[name] = arguments[name]
    request = build_request(
        contents, model=model, system_instruction=arguments.get("system_instruction"), config=config
    )
    return Order(request.encode(), build_options(**options))


def _fields(config: object) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise InvalidRequest("config", config, "a mapping with the fields of GenerationConfig")
    return dict(config)
