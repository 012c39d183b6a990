"""Gemini's contents as OpenAI's chat messages: what the SDK makes of messages (`genqueue.request.messages`), undone."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_parts import content_part, unsupported
from genqueue_worker.providers.seam import ProviderRequest

Message = dict[str, Any]
Part = Mapping[str, Any]

#: Fields of a function's call and of its answer that can be said.
_CALL: Final = frozenset({"id", "name", "args"})
_ANSWER: Final = frozenset({"id", "name", "response"})

#: Gemini's part fields that a model's turn may hold besides what it says.
_RIDERS: Final = frozenset({"thought", "thoughtSignature", "partMetadata"})


def messages_of(request: ProviderRequest, detail: str | None = None, *, signatures: bool = False) -> list[Message]:
    """Return the messages of a request.

    Thoughts of the model are left out: nobody takes them back.

    Args:
        request: what to say.
        detail: how closely images are looked at where a part does not say.
        signatures: whether thought signatures go back, as Gemini's own OpenAI interface wants them.

    Raises:
        ProviderError: `unsupported`, naming the field that cannot be said.
    """
    conversation = _Conversation(detail, signatures, ids=_given_ids(request.contents))
    if request.system_instruction is not None:
        conversation.instruct(request.system_instruction)
    for index, turn in enumerate(request.contents):
        parts, where = turn.get("parts") or (), f"contents[{index}].parts"
        if turn.get("role") == "model":
            conversation.tell(parts, where)
        else:
            conversation.ask(parts, where)
    return conversation.messages


@dataclass(slots=True)
class _Conversation:
    """The messages so far.

    Attributes:
        ids: of calls, given or made here.
        open: ids of the calls nothing has answered yet, by the function's name.
    """

    detail: str | None
    signatures: bool
    messages: list[Message] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    open: dict[str, deque[str]] = field(default_factory=dict)

    def instruct(self, instruction: Mapping[str, Any]) -> None:
        texts = [_text_of(part, "systemInstruction.parts") for part in instruction.get("parts") or ()]
        self.messages.append({"role": "system", "content": _content(texts)})

    def ask(self, parts: Sequence[Part], where: str) -> None:
        """Add a turn of the caller's: answers of functions come first, as they must follow the calls at once."""
        said = []
        for index, part in enumerate(parts):
            place = f"{where}[{index}]"
            if isinstance(response := part.get("functionResponse"), Mapping):
                self.messages.append(self._answer(response, f"{place}.functionResponse"))
            elif part.get("text") != "":
                said.append(content_part(part, place, self.detail))
        if said:
            self.messages.append({"role": "user", "content": _content(said)})

    def tell(self, parts: Sequence[Part], where: str) -> None:
        """Add a turn of the model's."""
        said, calls = [], []
        extra: dict[str, Any] = {}
        for index, part in enumerate(parts):
            place = f"{where}[{index}]"
            if part.get("thought"):
                continue
            if isinstance(call := part.get("functionCall"), Mapping):
                calls.append({**self._call(call, f"{place}.functionCall"), **self._extra(part)})
            else:
                extra = self._extra(part) or extra
                if part.get("text") != "":
                    said.append(_text_of(part, place))
        message: Message = {"role": "assistant"}
        if said:
            message["content"] = _content(said)
        if calls:
            message["tool_calls"] = calls
        if said or calls:
            self.messages.append({**message, **extra})

    def _call(self, call: Mapping[str, Any], where: str) -> dict[str, Any]:
        _only(call, _CALL, where)
        name = call.get("name", "")
        made = call.get("id") or next(one for one in map("call_{}".format, count(1)) if one not in self.ids)
        self.ids.add(made)
        self.open.setdefault(name, deque()).append(made)
        arguments = msgspec.json.encode(call.get("args") or {}).decode()
        return {"id": made, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _answer(self, response: Mapping[str, Any], where: str) -> Message:
        _only(response, _ANSWER, where)
        name, made = response.get("name", ""), response.get("id")
        waiting = self.open.get(name) or deque()
        if not made:
            if not waiting:
                message = f"{where} answers no call of {name!r} in the contents before: expected one, or the call's id"
                raise ProviderError("invalid_request", message)
            made = waiting[0]
        if made in waiting:
            waiting.remove(made)
        return {"role": "tool", "tool_call_id": made, "content": _told(response.get("response") or {})}

    def _extra(self, part: Part) -> dict[str, Any]:
        signature = part.get("thoughtSignature")
        if not signature or not self.signatures:
            return {}
        return {"extra_content": {"google": {"thought_signature": signature}}}


def _given_ids(contents: Sequence[Mapping[str, Any]]) -> set[str]:
    parts = (part for turn in contents for part in turn.get("parts") or ())
    calls = (call for part in parts if isinstance(call := part.get("functionCall"), Mapping))
    return {call["id"] for call in calls if call.get("id")}


def _only(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name, value in given.items():
        if name not in known and value not in (None, [], {}):
            raise unsupported(f"{where}.{name}")


def _text_of(part: Part, where: str) -> dict[str, Any]:
    for name in part:
        if name != "text" and name not in _RIDERS:
            raise unsupported(f"{where}.{name} where only text may be")
    return {"type": "text", "text": part.get("text", "")}


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return a message's content: a single text is bare, which every server takes."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _told(response: Mapping[str, Any]) -> str:
    """Return a function's answer as text: the text that was made an object because Gemini wants one, or JSON."""
    result = response.get("result")
    if response.keys() == {"result"} and isinstance(result, str) and not _is_object(result):
        return result
    return msgspec.json.encode(response).decode()


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
