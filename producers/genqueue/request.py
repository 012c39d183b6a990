"""What to generate (`GenerateRequest`) and how to queue it (`JobOptions`), validated before anything is queued."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import canonical, encode
from genqueue.lanes import Lane, parse_lane

#: Version of the request document.
VERSION: Final = 1

#: Largest request, in bytes of canonical JSON (about a million tokens of text).
MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024

#: Longest time a job may be given, in seconds.
MAX_DEADLINE: Final = 30 * 86_400.0

Cache = Literal["use", "refresh", "off"]
Share = Literal["tenant", "global", "none"]

_PART_KEYS = {
    "inline_data": "inlineData",
    "file_data": "fileData",
    "function_call": "functionCall",
    "function_response": "functionResponse",
    "executable_code": "executableCode",
    "code_execution_result": "codeExecutionResult",
    "thought_signature": "thoughtSignature",
    "video_metadata": "videoMetadata",
    "mime_type": "mimeType",
    "file_uri": "fileUri",
    "display_name": "displayName",
}
_BLOB_KEYS = frozenset({"inlineData", "fileData"})
_ROLES = ("user", "model", "function", "tool")


class GenerationConfig(BaseModel):
    """How to generate: the fields of google-genai's GenerateContentConfig, by the same names.

    Numbers are checked against Gemini's ranges; structured fields (tools, schemas, safety settings, ...) are passed
    through as JSON. A field left out, or None, takes the model's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[float, Field(ge=0)] | None = None
    candidate_count: Literal[1] | None = None
    max_output_tokens: Annotated[int, Field(gt=0)] | None = None
    stop_sequences: Annotated[list[str], Field(max_length=5)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: Any = None
    response_modalities: list[str] | None = None
    media_resolution: str | None = None
    speech_config: Any = None
    audio_timestamp: bool | None = None
    thinking_config: dict[str, Any] | None = None
    image_config: dict[str, Any] | None = None
    safety_settings: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_config: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    cached_content: str | None = None
    routing_config: dict[str, Any] | None = None
    model_selection_config: dict[str, Any] | None = None
    enable_enhanced_civic_answers: bool | None = None
    model_armor_config: dict[str, Any] | None = None
    service_tier: str | None = None


class GenerateRequest(BaseModel):
    """What to generate.

    Args:
        model: the provider's model name, e.g. "gemini-3-pro-preview".
        contents: a text, a list of texts and parts (one user turn), or Gemini-shaped contents
            ({"role": ..., "parts": [...]}); stored as the latter, in the REST spelling.
        system_instruction: a text or Gemini-shaped content.
        config: see GenerationConfig.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@:-]*$")]
    contents: list[dict[str, Any]]
    system_instruction: dict[str, Any] | None = None
    config: GenerationConfig = GenerationConfig()

    @field_validator("model")
    @classmethod
    def _model(cls, value: str) -> str:
        if {"", ".", ".."} & set(value.split("/")) or ".." in value:
            raise InvalidRequest("model", value, "a model's name, like gemini-3-pro-preview")
        return value

    @field_validator("contents", mode="before")
    @classmethod
    def _contents(cls, value: object) -> list[dict[str, Any]]:
        return contents_of(value)

    @field_validator("system_instruction", mode="before")
    @classmethod
    def _system_instruction(cls, value: object) -> dict[str, Any] | None:
        if value is None:
            return None
        turns = contents_of(value, field="system_instruction")
        if len(turns) != 1:
            raise InvalidRequest("system_instruction", value, "a text or one content")
        return {"parts": turns[0]["parts"]}

    def encode(self) -> bytes:
        """Return the canonical document: equal requests give equal bytes; raises InvalidRequest when too large."""
        document: dict[str, Any] = {
            "v": VERSION,
            "model": self.model,
            "contents": self.contents,
            "config": self.config.model_dump(exclude_none=True),
        }
        if self.system_instruction is not None:
            document["system_instruction"] = self.system_instruction
        try:
            encoded = encode({name: canonical(value, name) for name, value in document.items()})
        except RecursionError as error:
            raise InvalidRequest("request", "...", "JSON that is not nested thousands deep") from error
        if len(encoded) > MAX_REQUEST_BYTES:
            raise InvalidRequest("contents", f"{len(encoded)} bytes", f"at most {MAX_REQUEST_BYTES} bytes")
        return encoded


class JobOptions(BaseModel):
    """How to queue a request.

    Args:
        lane: "high", "normal" or "low" (or 1, 2, 3).
        tenant: on whose behalf; answers are shared within one tenant only.
        deadline: seconds from submit after which the answer is of no use; the lane's default when None.
        cache: "use" a cached answer, "refresh" it, or keep "off" the cache altogether.
        share: with whom an equal question is shared: "tenant", "global" (everybody), "none".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lane: Lane = "normal"
    tenant: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]*$")] = "default"
    deadline: float | None = None
    cache: Cache = "use"
    share: Share = "tenant"

    @field_validator("lane", mode="before")
    @classmethod
    def _lane(cls, value: object) -> Lane:
        return parse_lane(value)

    @field_validator("deadline")
    @classmethod
    def _deadline(cls, value: float | None) -> float | None:
        if value is not None and not (math.isfinite(value) and 0 < value <= MAX_DEADLINE):
            raise InvalidRequest("deadline", value, f"seconds from now, over 0 and at most {MAX_DEADLINE:g}")
        return value


def contents_of(value: object, field: str = "contents") -> list[dict[str, Any]]:
    """Return Gemini-shaped contents for a text, a part, a content, or a list of them; raises InvalidRequest."""
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))
    items = list(cast("Sequence[Any]", value)) if several else [value]
    turns: list[dict[str, Any]] = []
    loose: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        where = f"{field}[{index}]" if several else field
        if isinstance(item, Mapping) and "parts" in item:
            if loose:
                turns.append({"role": "user", "parts": loose})
                loose = []
            turns.append(_content(item, where))
        else:
            loose.append(_part(item, where))
    if loose:
        turns.append({"role": "user", "parts": loose})
    if not turns:
        raise InvalidRequest(field, value, "a text or at least one content")
    return turns


def _content(item: Mapping[str, Any], field: str) -> dict[str, Any]:
    unknown = set(item) - {"role", "parts"}
    if unknown:
        raise InvalidRequest(f"{field}.{min(unknown, key=str)}", item, "only role and parts")
    role = "user" if item.get("role") is None else item["role"]
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(f"{field}.role", role, "one of " + ", ".join(_ROLES))
    parts = item["parts"]
    if isinstance(parts, (str, Mapping)):
        parts = [parts]
    if not isinstance(parts, Sequence) or isinstance(parts, bytes) or not parts:
        raise InvalidRequest(f"{field}.parts", parts, "a list with at least one part")
    return {
        "role": role,
        "parts": [_part(part, f"{field}.parts[{index}]") for index, part in enumerate(parts)],
    }


def _part(item: object, field: str) -> dict[str, Any]:
    if isinstance(item, str):
        if not item:
            raise InvalidRequest(field, item, "a text that is not empty")
        return {"text": item}
    if not isinstance(item, Mapping) or not item:
        raise InvalidRequest(field, item, "a text, or a part such as {'text': ...}")
    part: dict[Any, Any] = {_PART_KEYS.get(str(name), name): value for name, value in item.items()}
    if "text" in part and not isinstance(part["text"], str):
        raise InvalidRequest(f"{field}.text", part["text"], "a text")
    for name in _BLOB_KEYS & part.keys():
        blob = part[name]
        if not isinstance(blob, Mapping):
            raise InvalidRequest(f"{field}.{name}", blob, "an object")
        part[name] = {_PART_KEYS.get(key, key): inner for key, inner in blob.items()}
    return part


def invalid(error: ValidationError) -> InvalidRequest:
    """Return the InvalidRequest for pydantic's first complaint, naming the field as the caller wrote it."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidRequest):
        return cause
    path = ".".join(str(step) for step in first["loc"] if not str(step).startswith(("constrained-", "function-")))
    if first["type"] == "extra_forbidden":
        return InvalidRequest(path, first["input"], "no such field; see GenerationConfig for the names")
    if first["type"] == "missing":
        return InvalidRequest(path, None, "a value: it is required")
    return InvalidRequest(path, first["input"], first["msg"][0].lower() + first["msg"][1:])


def build_request(
    contents: object,
    *,
    model: str,
    system_instruction: object = None,
    config: Mapping[str, Any] | None = None,
) -> GenerateRequest:
    """Return a validated request; raises InvalidRequest naming the first field that is wrong."""
    values = {
        "model": model,
        "contents": contents,
        "system_instruction": system_instruction,
        "config": {} if config is None else config,
    }
    try:
        return GenerateRequest.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from error


def build_options(**options: Any) -> JobOptions:
    """Return validated options; raises InvalidRequest naming the first option that is wrong."""
    try:
        return JobOptions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise invalid(error) from error
