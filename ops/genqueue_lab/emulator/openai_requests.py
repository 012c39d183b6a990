"""A chat completion's request, parsed and checked the way OpenAI checks it, as what the emulated model reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from genqueue_lab.emulator.exchange import MAX_BODY
from genqueue_lab.emulator.openai_errors import ChatError, invalid, unknown_model
from genqueue_lab.emulator.openai_models import CHAT_MODELS, hides_thoughts
from genqueue_lab.emulator.requests import GenerateRequest, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue_lab.emulator.catalog import Model
    from genqueue_lab.emulator.exchange import Request

_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"required field `([^`]*)`")
_JSON = re.compile(r"json", re.IGNORECASE)

Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class _Function(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function
    type: Literal["function"] = "function"


class _ContentPart(msgspec.Struct):
    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_ContentPart] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: Any = None
    function_call: Any = None
    parsed: Any = None  # of the package's own, which it sends back with a message


class _Declared(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Declared


class _Named(msgspec.Struct):
    name: str


class _Chosen(msgspec.Struct):
    type: Literal["function"]
    function: _Named


class _Schema(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any] = {}
    description: str | None = None
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Chosen | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    store: bool | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    logit_bias: dict[str, float] | None = None


_decoder = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request.

    Attributes:
        asked: what the emulated model reads.
        model: who is asked.
        streamed: whether the answer comes in pieces.
        counts: whether the last of them tells the usage.
        choices: answers asked for.
        logprobs: whether each token's logarithmic probability is told, and of how many others; None for no.
    """

    asked: GenerateRequest
    model: Model
    streamed: bool
    counts: bool
    choices: int
    logprobs: int | None


def parse_chat(request: Request) -> ChatRequest:
    """Return the checked request; raises ChatError in the API's words."""
    body = _read(request)
    if (model := CHAT_MODELS.get(body.model)) is None:
        raise unknown_model(body.model)
    _check(body, model)
    contents = list(_contents(body.messages))
    system = {"parts": [part for one in body.messages if one.role in ("system", "developer") for part in _parts(one)]}
    choice = body.tool_choice
    calling: dict[str, Any] = {"mode": {"required": "ANY", "none": "NONE"}.get(str(choice), "AUTO")}
    if isinstance(choice, _Chosen):
        calling = {"mode": "ANY", "allowedFunctionNames": [choice.function.name]}
    asked = GenerateRequest(
        contents=contents or [{"role": "user", "parts": []}],
        system_instruction=system if system["parts"] else {},
        config=_config(body, model),
        functions=[_declaration(tool.function) for tool in body.tools or ()],
        calling=calling,
        tier=body.service_tier or "default",
        prompt_tokens=tokens_of([*contents, system]),
    )
    options = body.stream_options or _StreamOptions()
    return ChatRequest(
        asked=asked,
        model=model,
        streamed=bool(body.stream),
        counts=bool(options.include_usage),
        choices=body.n or 1,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _read(request: Request) -> _Body:
    if request.oversized:
        raise ChatError(413, f"The request is larger than {MAX_BODY} bytes.")
    try:
        return _decoder.decode(request.body)
    except msgspec.ValidationError as error:
        raise _complaint(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
        raise invalid(message) from error


def _complaint(text: str) -> ChatError:
    """Return the answer to a body that msgspec found wrong."""
    place = _PLACE.search(text)
    where = place[1] if place else ""
    if found := _UNKNOWN.search(text):
        name = f"{where}.{found[1]}".lstrip(".")
        return invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if found := _MISSING.search(text):
        name = f"{where}.{found[1]}".lstrip(".")
        if name == "model":
            return invalid("you must provide a model parameter")
        return invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    sentence = _PLACE.sub("", text).replace("`", "")
    code = "invalid_type" if "got" in sentence else "invalid_value"
    return invalid(f"Invalid value for '{where}': {sentence[0].lower()}{sentence[1:]}.", where or None, code)


def _check(body: _Body, model: Model) -> None:
    if body.stream_options is not None and not body.stream:
        raise invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.max_tokens is not None and hides_thoughts(model):
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
        raise invalid(f"{message}instead.", "max_tokens", "unsupported_parameter")
    if body.tool_choice is not None and not body.tools:
        raise invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("'top_logprobs' is only allowed when 'logprobs' is enabled.", "top_logprobs")
    _check_format(body)
    _check_calls(body.messages)


def _check_format(body: _Body) -> None:
    form = body.response_format
    if form is None or form.type == "text":
        return
    said = " ".join(part.get("text", "") for one in body.messages for part in _parts(one))
    if form.type == "json_object" and not _JSON.search(said):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise invalid(message, "messages")
    if form.type == "json_schema":
        if form.json_schema is None:
            name = "response_format.json_schema"
            raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
        if problem := _unfit(form.json_schema):
            message = f"Invalid schema for response_format '{form.json_schema.name}': {problem}"
            raise invalid(message, "response_format", "invalid_json_schema")


def _unfit(asked: _Schema) -> str:
    """Return why answers cannot be held to a schema; nothing for one they can be."""
    kind = asked.schema.get("type")
    if kind != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    return _loose(asked.schema) if asked.strict else ""


def _loose(schema: Any, place: str = "") -> str:
    """Return why strict decoding cannot follow a schema; nothing for one it can."""
    if not isinstance(schema, dict):
        return ""
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return f"In context=({place}), 'additionalProperties' is required to be supplied and to be false."
        if set(schema.get("required", ())) != set(schema.get("properties", {})):
            return f"In context=({place}), 'required' is required to be an array including every key in properties."
    below = {**schema.get("properties", {}), **schema.get("$defs", {}), "items": schema.get("items")}
    below |= {f"anyOf {number}": one for number, one in enumerate(schema.get("anyOf", ()))}
    return next((problem for name, one in below.items() if (problem := _loose(one, f"{place}'{name}', "))), "")


def _check_calls(messages: list[_Message]) -> None:
    """Refuse answers of tools nobody called, and calls nobody answered."""
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                raise invalid(f"Invalid parameter: {text}", f"messages.[{index}].role")
            waiting.remove(message.tool_call_id)
            continue
        _check_answered(waiting, index)
        waiting = {call.id for call in message.tool_calls or ()}
        if message.content is None and not message.tool_calls and message.role != "assistant":
            text = f"Invalid value for 'content': expected a string, got null. (messages.[{index}].content)"
            raise invalid(text, f"messages.[{index}].content")
    _check_answered(waiting, len(messages))


def _check_answered(waiting: set[str], index: int) -> None:
    if waiting:
        text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        missing = ", ".join(sorted(waiting))
        text += f"'tool_call_id'. The following tool_call_ids did not have response messages: {missing}"
        raise invalid(text, f"messages.[{index}].role")


def _config(body: _Body, model: Model) -> dict[str, Any]:
    """Return what shapes the answer, by Gemini's names."""
    config: dict[str, Any] = {}
    if limit := body.max_completion_tokens or body.max_tokens:
        config["maxOutputTokens"] = limit
    if body.stop:
        config["stopSequences"] = [body.stop] if isinstance(body.stop, str) else body.stop
    if (form := body.response_format) is not None and form.type != "text":
        config["responseMimeType"] = "application/json"
        if form.json_schema is not None:
            config["responseJsonSchema"] = form.json_schema.schema
    if model.thinking and body.reasoning_effort != "none":
        config["thinkingConfig"] = {"includeThoughts": True}
    return config


def _contents(messages: list[_Message]) -> Iterator[dict[str, Any]]:
    """Yield the turns; what a tool answers is no text of the user's."""
    for message in messages:
        if message.role in ("tool", "function"):
            response: dict[str, Any] = {"name": message.tool_call_id or message.name, "response": {}}
            yield {"role": "user", "parts": [{"functionResponse": response}]}
        elif message.role in ("user", "assistant"):
            role = "model" if message.role == "assistant" else "user"
            yield {"role": role, "parts": list(_parts(message))}


def _parts(message: _Message) -> Iterator[dict[str, Any]]:
    if isinstance(message.content, str):
        yield {"text": message.content}
    elif message.content is not None:
        for part in message.content:
            text = part.text or part.refusal
            yield {"inlineData": {}} if text is None else {"text": text}
    for call in message.tool_calls or ():
        yield {"functionCall": {"name": call.function.name, "args": {}}}


def _declaration(function: _Declared) -> dict[str, Any]:
    return {"name": function.name, "parametersJsonSchema": function.parameters}
