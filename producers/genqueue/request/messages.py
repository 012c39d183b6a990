"""OpenAI's chat messages as Gemini's contents: the same conversation comes to the same request."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genqueue.errors import InvalidRequest
from genqueue.request.attachments import attachment
from genqueue.request.contents import part_of
from genqueue.request.names import opened

#: What a message may hold, by role; what is None or empty counts as left out.
_FIELDS: dict[str, frozenset[str]] = {
    "system": frozenset({"content"}),
    "developer": frozenset({"content"}),
    "user": frozenset({"content"}),
    "assistant": frozenset({"content", "refusal", "tool_calls", "function_call", "annotations", "extra_content"}),
    "tool": frozenset({"content", "tool_call_id", "name"}),
    "function": frozenset({"content", "name"}),
}


@dataclass(slots=True)
class Conversation:
    """What the messages come to so far.

    Attributes:
        contents: Gemini's turns.
        instruction: parts of the system instruction.
        calls: names of the functions called, by the call's id.
        answering: whether the last turn holds answers of tools, and further ones belong into it.
    """

    contents: list[dict[str, Any]] = field(default_factory=list)
    instruction: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)
    answering: bool = False

    def add(self, role: str, parts: list[dict[str, Any]]) -> None:
        """Add a turn."""
        self.contents.append({"role": role, "parts": parts})
        self.answering = False

    def answer(self, part: dict[str, Any]) -> None:
        """Add a tool's answer to the turn of answers; Gemini wants those to one turn's calls together."""
        if self.answering:
            self.contents[-1]["parts"].append(part)
        else:
            self.add("user", [part])
            self.answering = True


def contents_of_messages(messages: object) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return Gemini's contents and system instruction for OpenAI's chat messages.

    Messages may be mappings or OpenAI's own objects. System and developer messages, wherever they stand, are the
    instruction; answers of tools that stand together are one turn. An image's `detail` is a hint Gemini has no use for.

    Raises:
        InvalidRequest: naming the place that is wrong, or that Gemini has nothing for.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise InvalidRequest("messages", messages, "a list of OpenAI's chat messages")
    conversation = Conversation()
    for index, given in enumerate(messages):
        where = f"messages[{index}]"
        message = opened(given)
        if not isinstance(message, Mapping):
            raise InvalidRequest(where, given, "a message such as {'role': 'user', 'content': ...}")
        role = message.get("role")
        if not isinstance(role, str) or role not in _FIELDS:
            raise InvalidRequest(f"{where}.role", role, "one of " + ", ".join(_FIELDS))
        _take(conversation, str.__str__(role), _known_fields(message, role, where), where)
    if not conversation.contents:
        raise InvalidRequest("messages", messages, "at least one message of a user or an assistant")
    return conversation.contents, {"parts": conversation.instruction} if conversation.instruction else None


def _known_fields(message: Mapping[Any, Any], role: str, where: str) -> dict[str, Any]:
    said = {name: value for name, value in message.items() if name != "role" and not _says_nothing(value)}
    for name, value in said.items():
        if name not in _FIELDS[role]:
            expected = f"nothing: Gemini has no {name} of a message by {role}; put it into the text, or leave it out"
            raise InvalidRequest(f"{where}.{name}", value, expected)
    return said


def _says_nothing(value: object) -> bool:
    return value is None or (isinstance(value, (list, tuple, dict)) and not value)


def _take(conversation: Conversation, role: str, message: Mapping[str, Any], where: str) -> None:
    match role:
        case "system" | "developer":
            conversation.instruction += _parts(message.get("content"), f"{where}.content")
        case "user":
            conversation.add("user", _parts(message.get("content"), f"{where}.content"))
        case "assistant":
            conversation.add("model", _assistant(conversation, message, where))
        case _:
            conversation.answer(_tool_answer(conversation, message, where))


def _parts(content: object, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [part_of(content, where)]
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)) or not content:
        raise InvalidRequest(where, content, "a text, or a list of content parts")
    return [_part(opened(one), f"{where}[{index}]") for index, one in enumerate(content)]


def _part(given: object, where: str) -> dict[str, Any]:
    if isinstance(given, str):
        return part_of(given, where)
    if not isinstance(given, Mapping):
        raise InvalidRequest(where, given, "a content part such as {'type': 'text', 'text': ...}")
    kind = given.get("type")
    if isinstance(kind, str) and kind in ("text", "refusal"):
        text = given.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest(f"{where}.{kind}", text, "a text")
        return part_of(text, f"{where}.{kind}")
    return part_of(attachment(kind, given, where), where)


def _assistant(conversation: Conversation, message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for name in ("content", "refusal"):
        if message.get(name) not in (None, ""):  # beside calls the content is often an empty text
            parts += _parts(message[name], f"{where}.{name}")
    if signature := _signature(message.get("extra_content")):
        if not parts:
            raise InvalidRequest(f"{where}.extra_content", message["extra_content"], "a text that was signed")
        parts[-1] = part_of({**parts[-1], "thoughtSignature": signature}, where)
    calls = message.get("tool_calls", ())
    if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
        raise InvalidRequest(f"{where}.tool_calls", calls, "a list of calls")
    for index, call in enumerate(calls):
        parts.append(_call(conversation, opened(call), f"{where}.tool_calls[{index}]"))
    if "function_call" in message:  # what came before tool_calls
        call = {"type": "function", "function": message["function_call"]}
        parts.append(_call(conversation, call, where))
    if not parts:
        raise InvalidRequest(f"{where}.content", message.get("content"), "a text, or calls of tools")
    return parts


def _call(conversation: Conversation, call: object, where: str) -> dict[str, Any]:
    function = opened(call.get("function")) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or call.get("type", "function") != "function" or not isinstance(function, Mapping):
        raise InvalidRequest(where, call, "the call of a function: {'id', 'type': 'function', 'function': {...}}")
    name, arguments, made = function.get("name"), function.get("arguments"), call.get("id")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.function.name", name, "the function's name")
    if made is not None and not isinstance(made, str):
        raise InvalidRequest(f"{where}.id", made, "the call's id")
    if made is not None:
        conversation.calls[made] = name
    args = _decoded(arguments) if arguments else {}
    if not isinstance(args, Mapping):
        raise InvalidRequest(f"{where}.function.arguments", arguments, "a JSON object, as text")
    part = {
        "functionCall": {"id": made, "name": name, "args": args},
        "thoughtSignature": _signature(call.get("extra_content")),
    }
    return part_of(part, f"{where}.function")


def _decoded(text: object) -> Any:
    """Return JSON in a text; the text itself when it is none."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _signature(extra: object) -> Any:
    """Return the thought signature where Gemini's own OpenAI interface has it."""
    google = extra.get("google") if isinstance(extra, Mapping) else None
    return google.get("thought_signature") if isinstance(google, Mapping) else None


def _tool_answer(conversation: Conversation, message: Mapping[str, Any], where: str) -> dict[str, Any]:
    name, made = message.get("name"), message.get("tool_call_id")
    if made is not None:
        known = conversation.calls.get(made) if isinstance(made, str) else None
        if known is None and name is None:
            raise InvalidRequest(f"{where}.tool_call_id", made, "the id of a call in a message before")
        name = known or name
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.tool_call_id", made, "the id of a call in a message before")
    text = _told(message.get("content", ""), f"{where}.content")
    answer = {"id": made, "name": name}
    decoded = _decoded(text)
    if isinstance(decoded, Mapping):
        with contextlib.suppress(InvalidRequest):  # NaN, or a number too large: then it is a text like others
            return part_of({"functionResponse": {**answer, "response": decoded}}, where)
    # Gemini wants an object.
    return part_of({"functionResponse": {**answer, "response": {"result": text}}}, where)


def _told(content: object, where: str) -> str:
    """Return a tool's answer as text; raises InvalidRequest when it is more."""
    if isinstance(content, str):
        return content
    parts = _parts(content, where)
    if any(part.keys() != {"text"} for part in parts):
        raise InvalidRequest(where, content, "text: Gemini's functions answer with an object")
    return "".join(part["text"] for part in parts)
