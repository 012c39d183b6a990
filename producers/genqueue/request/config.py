"""How to generate: every field of google-genai's GenerateContentConfig, checked and in one spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StrictBool, ValidationError

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import canonical
from genqueue.request.complaint import invalid
from genqueue.request.names import camel, is_object, opened, snake
from genqueue.request.schema import check_schema, check_spelled_schema, keep_order, spell_schema
from genqueue.request.shape import fits_gemini, is_type, schema_of
from genqueue.request.spelling import spelled

#: How deep a field of the configuration stands in the request document.
_DEPTH: Final = 2

#: Fields that steer google-genai's own client, and the only value that asks for what happens here anyway.
CLIENT_FIELDS: Final[Mapping[str, str]] = {
    "automatic_function_calling": "{'disable': True}: a worker calls no functions of yours; answer the calls yourself",
    "automatic_continuation": "False: a worker does not continue by itself",
    "should_return_http_response": "False: a worker returns the answer, not its HTTP response",
    "http_options": "nothing: where and how to connect is the worker's own setting",
}

#: Values that mean the same as leaving the field out; so do empty lists and objects.
_DEFAULTS: Final[Mapping[str, object]] = {
    "candidate_count": 1,
    "response_mime_type": "text/plain",
    "response_logprobs": False,
    "audio_timestamp": False,
    "enable_enhanced_civic_answers": False,
}

_SCHEMA_FIELDS: Final = frozenset({"response_schema", "response_json_schema"})


def _number(value: object) -> object:
    if isinstance(value, (bool, str, bytes)):
        raise ValueError("a number")  # noqa: TRY004 - pydantic wants a ValueError
    return value


_Float = Annotated[float, BeforeValidator(_number)]
_Int = Annotated[int, BeforeValidator(_number)]
_Object = dict[str, Any]
# Strict, as what is no list or tuple was not spelled out; and a set would come in another order every time.
_Texts = Annotated[list[str], Strict()]
_Objects = Annotated[list[_Object], Strict()]


class GenerationConfig(BaseModel):
    """How to generate: the fields of google-genai's GenerateContentConfig, by the same names.

    Numbers are checked against Gemini's ranges; structured fields (tools, schemas, safety settings, ...) hold
    canonical JSON in the REST spelling. A field left out, or None, takes the model's default. Gemini's `store` stands
    in `config` only: as a keyword of `submit`, `store` is the job's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    temperature: Annotated[_Float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[_Float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[_Float, Field(ge=0)] | None = None
    candidate_count: Annotated[_Int, Field(ge=1, le=1)] | None = None
    max_output_tokens: Annotated[_Int, Field(gt=0, lt=2**31)] | None = None
    stop_sequences: Annotated[_Texts, Field(max_length=5)] | None = None
    presence_penalty: Annotated[_Float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[_Float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[_Int, Field(ge=-(2**31), lt=2**31)] | None = None
    response_logprobs: StrictBool | None = None
    logprobs: Annotated[_Int, Field(ge=0, le=20)] | None = None
    response_mime_type: str | None = None
    response_schema: _Object | None = None
    response_json_schema: _Object | StrictBool | None = None
    response_modalities: _Texts | None = None
    media_resolution: str | None = None
    speech_config: _Object | None = None
    audio_timestamp: StrictBool | None = None
    audio_transcription_config: _Object | None = None
    thinking_config: _Object | None = None
    image_config: _Object | None = None
    safety_settings: _Objects | None = None
    tools: _Objects | None = None
    tool_config: _Object | None = None
    labels: dict[str, str] | None = None
    cached_content: Annotated[str, Field(min_length=1)] | None = None
    continuation_token: str | None = None
    routing_config: _Object | None = None
    model_selection_config: _Object | None = None
    generation_output_config: _Object | None = None
    enable_enhanced_civic_answers: StrictBool | None = None
    model_armor_config: _Object | None = None
    service_tier: Literal["unspecified", "flex", "standard", "priority"] | None = None
    store: StrictBool | None = None

    def document(self) -> dict[str, Any]:
        """Return the fields that say anything, under their REST names; raises InvalidRequest for what is not JSON."""
        said: dict[str, Any] = {}
        if not self.model_fields_set:  # nearly always, and there are many fields
            return said
        for name in type(self).model_fields:
            value = getattr(self, name)
            empty = value in ([], {}) and name not in _SCHEMA_FIELDS
            default = name in _DEFAULTS and value == _DEFAULTS[name]
            if value is not None and not empty and not default:
                said[camel(name)] = canonical(value, f"config.{name}", _DEPTH)
        return said


@dataclass(frozen=True, slots=True)
class Configured:
    """A configuration with what a caller may put into it besides.

    Attributes:
        shape: what the answer is to be read into: a Python type, or a schema; None without one.
    """

    config: GenerationConfig
    system_instruction: object = None
    shape: Any = None


_UNCONFIGURED: Final = Configured(GenerationConfig())


def named_fields(config: object, field: str = "config") -> dict[str, Any]:
    """Return the fields of a configuration under their snake_case names, those that are None left out.

    Args:
        config: a mapping with names in either spelling, or google-genai's GenerateContentConfig; None is empty.
        field: its path, for errors.

    Raises:
        InvalidRequest: a name is unknown, or given in both spellings.
    """
    given = {} if config is None else opened(config)
    if not isinstance(given, Mapping):
        raise InvalidRequest(field, config, "a mapping with the fields of GenerationConfig, or a GenerateContentConfig")
    named: dict[str, Any] = {}
    for key, value in given.items():
        name = field_name(key)
        if name is None:
            raise InvalidRequest(f"{field}.{key}", value, "a field of GenerationConfig: there is none of this name")
        if value is not None:
            if name in named:
                raise InvalidRequest(f"{field}.{key}", value, "this field once, not in two spellings")
            named[name] = value
    return named


def field_name(name: object) -> str | None:
    """Return the snake_case name of a field of GenerateContentConfig; None for what is none."""
    plain = snake(str.__str__(name)) if isinstance(name, str) else ""
    known = plain in GenerationConfig.model_fields or plain in CLIENT_FIELDS or plain == "system_instruction"
    return plain if known else None


def build_config(named: Mapping[str, Any]) -> Configured:
    """Return the checked configuration of fields under their snake_case names; raises InvalidRequest."""
    fields = {name: value for name, value in named.items() if value is not None}
    if not fields:
        return _UNCONFIGURED
    instruction = fields.pop("system_instruction", None)
    for name in CLIENT_FIELDS:
        _refuse_clients(name, fields.pop(name, None))
    shape = _answer_schema(fields)
    prepared = {name: _prepared(name, value) for name, value in fields.items()}
    try:
        return Configured(GenerationConfig.model_validate(prepared), instruction, shape)
    except ValidationError as error:
        raise invalid(error, "config") from error


def _refuse_clients(name: str, value: object) -> None:
    asks = opened(value)
    idle = asks is None or (asks is False and name.startswith(("automatic_continuation", "should_")))
    if name == "automatic_function_calling" and isinstance(asks, Mapping):
        idle = asks.get("disable") is True
    if not idle:
        raise InvalidRequest(f"config.{name}", value, CLIENT_FIELDS[name])


def _answer_schema(fields: dict[str, Any]) -> Any:
    """Put the answer's schema into its canonical form and return the shape it stands for."""
    given = [name for name in sorted(_SCHEMA_FIELDS) if name in fields]
    if not given:
        return None
    if len(given) > 1:
        raise InvalidRequest("config.response_json_schema", fields[given[0]], "one schema, not response_schema as well")
    name = given[0]
    field, shape = f"config.{name}", fields.pop(name)
    schema = shape
    if is_type(shape):
        schema = schema_of(shape, field)
        name = "response_schema" if name == "response_schema" and fits_gemini(schema) else "response_json_schema"
    fields[name] = _checked_schema(name, schema, field)
    if fields.setdefault("response_mime_type", "application/json") == "text/plain":
        raise InvalidRequest(
            "config.response_mime_type", "text/plain", "application/json (or text/x.enum) with a schema"
        )
    return shape


def _checked_schema(name: str, schema: Any, field: str) -> Any:
    if name == "response_json_schema":
        checked = keep_order(canonical(schema, field, _DEPTH))
        check_schema(checked, field)
    elif is_object(schema):
        checked = spell_schema(schema, field, _DEPTH, ordered=True)
        check_spelled_schema(checked, field)
    else:
        raise InvalidRequest(field, schema, "a schema: a mapping, a pydantic model or another Python type")
    return checked


def _prepared(name: str, value: Any) -> Any:
    """Return a field's value spelled out, for pydantic to check."""
    field = f"config.{name}"
    if name in _SCHEMA_FIELDS:
        return value
    if name == "tools":
        return _tools(value, field)
    value = _short_form(name, value)
    if isinstance(value, (int, float)) or value is None:
        return value
    return spelled(value, camel(name), field, _DEPTH) if _is_json(value) else value


def _is_json(value: object) -> bool:
    """Whether a value is for `spelled` to judge; pydantic says better what a field is to be of the others."""
    return isinstance(value, (str, bytes, list, tuple)) or is_object(value)


def _short_form(name: str, value: Any) -> Any:
    """Write out the short forms google-genai takes."""
    if not isinstance(value, str):
        return value
    match name:
        case "speech_config":
            return {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": value}}}
        case "cached_content":
            return value if "/" in value or not value else f"cachedContents/{value}"
        case "service_tier":
            return value.lower().removeprefix("service_tier_")
    return value


def _tools(value: object, field: str) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return [_tool(tool, f"{field}[{index}]") for index, tool in enumerate(value)]


def _tool(tool: Any, field: str) -> Any:
    if callable(tool):
        expected = "a declaration such as {'function_declarations': [...]}: a worker cannot call functions of yours"
        raise InvalidRequest(field, tool, expected)
    if isinstance(tool, Mapping) and tool.get("type") == "function" and isinstance(tool.get("function"), Mapping):
        tool = {"function_declarations": [_openai_function(tool["function"])]}
    plain = spelled(tool, "tools", field, _DEPTH + 1)
    if isinstance(plain, dict) and "name" in plain:
        raise InvalidRequest(field, tool, "a tool: a bare declaration belongs into {'function_declarations': [...]}")
    return plain


def _openai_function(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declaration for OpenAI's form of one; `strict` says how it decodes, which Gemini always does."""
    declared = {name: value for name, value in function.items() if name not in ("parameters", "strict")}
    return {**declared, "parameters_json_schema": function.get("parameters")}
