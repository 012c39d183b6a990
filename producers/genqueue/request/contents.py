"""Gemini's contents: the turns of a conversation, from every usual form into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import sound
from genqueue.request.names import is_object, opened
from genqueue.request.spelling import PART_FIELDS, PART_OBJECTS, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How deep a part stands in the request document.
_PART_DEPTH: Final = 4

_ROLES: Final = ("user", "model", "function", "tool")


def contents_of(value: object, field: str = "contents") -> list[dict[str, Any]]:
    """Return Gemini-shaped contents for a text, a part, a content, or a list of them.

    Parts and contents may be mappings or google-genai's objects; a File of its is the part that refers to it. Parts
    that stand together are one turn, of the user or, calls of functions, of the model; a list of parts is a turn too.

    Raises:
        InvalidRequest: naming the place that is wrong.
    """
    if type(value) is str:  # as most are
        return [{"role": "user", "parts": [_text(value, field)]}]
    several = _is_list(value)
    items = list(cast("Sequence[Any]", value)) if several else [value]
    turns: list[dict[str, Any]] = []
    loose: dict[str, Any] = {}
    for index, item in enumerate(items):
        where = f"{field}[{index}]" if several else field
        given = opened(item)
        if isinstance(given, (dict, Mapping)) and "parts" in given:
            turns.append(_content(given, where))
            loose = {}
        elif _is_list(item):
            turns.append({"role": "user", "parts": _callers_parts(item, where)})
            loose = {}
        else:
            part = _of_a_kind(part_of(item, where), where)
            role = "model" if "functionCall" in part else "user"
            if loose.get("role") != role:
                loose = {"role": role, "parts": []}
                turns.append(loose)
            loose["parts"].append(part)
    if not turns:
        raise InvalidRequest(field, value, "a text or at least one content")
    return turns


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _content(item: Mapping[str, Any], field: str) -> dict[str, Any]:
    unknown = [name for name in item if name not in ("role", "parts")]
    if unknown:
        raise InvalidRequest(f"{field}.{unknown[0]}", item[unknown[0]], "only role and parts")
    role = "user" if item.get("role") is None else item["role"]
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(f"{field}.role", role, f"one of {', '.join(_ROLES)} (OpenAI's roles belong in messages=)")
    parts = item["parts"]
    if isinstance(parts, str) or is_object(parts):
        parts = [parts]
    take = _parts if role == "model" else _callers_parts  # what a model says is not the caller's to mend
    return {"role": str.__str__(role), "parts": take(parts, f"{field}.parts")}


def _parts(parts: Any, field: str) -> list[dict[str, Any]]:
    if not _is_list(parts) or not parts:
        raise InvalidRequest(field, parts, "a list with at least one part")
    return [part_of(part, f"{field}[{index}]") for index, part in enumerate(parts)]


def _callers_parts(parts: Any, field: str) -> list[dict[str, Any]]:
    return [_of_a_kind(part, f"{field}[{index}]") for index, part in enumerate(_parts(parts, field))]


def _of_a_kind(part: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a part that is of a known kind, or could be of a new one: an object; raises InvalidRequest for others."""
    if "type" in part:
        raise InvalidRequest(f"{field}.type", part["type"], "a part of Gemini's; OpenAI's belong in messages=")
    if not PART_FIELDS & part.keys() and not (len(part) == 1 and all(isinstance(one, dict) for one in part.values())):
        raise InvalidRequest(f"{field}.{next(iter(part))}", part, "a field of a part, such as text or inline_data")
    return part


def part_of(item: object, field: str) -> dict[str, Any]:
    """Return one part in the REST spelling; raises InvalidRequest."""
    if isinstance(item, str):
        return _text(item, field)
    given = opened(item)
    if isinstance(given, (dict, Mapping)):
        given = _file(given, field) or given
    if not isinstance(given, (dict, Mapping)) or not given:
        raise InvalidRequest(field, item, "a text, or a part such as {'text': ...}")
    if len(given) == 1 and isinstance(given.get("text"), str):  # nearly all are
        return _text(given["text"], f"{field}.text")
    if "role" in given and "content" in given:
        raise InvalidRequest(field, item, "parts and contents of Gemini's; OpenAI's messages belong in messages=")
    part: dict[str, Any] = spelled(given, "contents.parts", field, _PART_DEPTH)
    return _checked(part, field)


def _text(text: str, field: str) -> dict[str, Any]:
    if not text:
        raise InvalidRequest(field, text, "a text that is not empty, or another part")
    return {"text": sound(text, field)}


def _checked(part: dict[str, Any], field: str) -> dict[str, Any]:
    for name, value in part.items():
        if name in PART_OBJECTS and not isinstance(value, dict):
            raise InvalidRequest(f"{field}.{name}", value, "an object")
    if part.get("thought") is False:  # as if it were not there
        del part["thought"]
    if not part or part == {"text": ""}:
        raise InvalidRequest(field, part, "a text that is not empty, or another part")
    return part


def _file(fields: Mapping[Any, Any], field: str) -> dict[str, Any] | None:
    """Return the part for google-genai's File or FileData; None for what is neither."""
    if "file_uri" in fields or "fileUri" in fields:
        return {"file_data": fields}
    if not {"uri", "mime_type"} <= fields.keys():
        return None
    for name in ("uri", "mime_type"):
        if not fields[name]:
            raise InvalidRequest(f"{field}.{name}", fields[name], "an uploaded file, with its uri and mime_type")
    return {"file_data": {"file_uri": fields["uri"], "mime_type": fields["mime_type"]}}


def instruction_of(value: object, field: str = "system_instruction") -> dict[str, Any]:
    """Return the system instruction for a text, parts, or one content; raises InvalidRequest."""
    turns = contents_of(value, field)
    if len(turns) != 1:
        raise InvalidRequest(field, value, "a text or one content")
    return {"parts": turns[0]["parts"]}


def inline_parts(
    contents: list[dict[str, Any]], system_instruction: dict[str, Any] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part of a request that has `inlineData`, those of function responses too, and that field's path."""
    for index, turn in enumerate(contents):
        yield from _inline_of_parts(turn, f"contents[{index}]")
    yield from _inline_of_parts(system_instruction or {}, "system_instruction")


def _inline_of_parts(turn: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, part in enumerate(turn.get("parts") or ()):
        place = f"{where}.parts[{index}]"
        if isinstance(part, dict):
            if isinstance(part.get("inlineData"), dict):
                yield f"{place}.inlineData", part
            if isinstance(response := part.get("functionResponse"), dict):
                yield from _inline_of_parts(response, f"{place}.functionResponse")
