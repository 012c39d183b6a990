"""Many messages as Celery and Kombu write one: the first of a kind is theirs, the others are its text with other ids.

Only for Kombu's own Redis transport, where a message is a text in a list; any other broker is left to Kombu.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, signals
from kombu.messaging import Producer
from kombu.utils.json import dumps

if TYPE_CHECKING:
    from genqueue.ledger import Publication

#: What a message is named by: the id of its task, and the task's arguments.
Name = tuple[str, tuple[str, int]]
Naming = Callable[["Publication"], Name]

#: Stencils by queue, and by whether there is a traceparent.
Made = dict[tuple[str, bool], "_Stencil"]

#: Who is to see, or to change, every single message.
_WATCHERS: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)

#: What a message goes through. Instrumentation that does without signals wraps one of these.
_WAY: Final = ((Celery, "send_task"), (Producer, "publish"), (Producer, "_publish"))


def is_copyable(channel: Any) -> bool:
    """Whether messages of one kind differ on this channel by nothing but their ids."""
    if any(signal.receivers for signal in _WATCHERS) or channel.connection.driver_type != "redis":
        return False
    from kombu.transport.redis import Channel  # noqa: PLC0415 - for other brokers redis need not be of Kombu's liking

    if getattr(type(channel), "_put", None) is not Channel._put:  # noqa: SLF001 - whoever writes otherwise is no copy of it
        return False
    return all(_is_its_own(owner, name) for owner, name in (*_WAY, (Channel, "_put")))


def _is_its_own(owner: type, name: str) -> bool:
    """Whether a class has the method that its module wrote."""
    method = vars(owner).get(name)
    return type(method) is FunctionType and method.__globals__["__name__"] == owner.__module__


class Stencils:
    """Writes messages over one channel.

    Args:
        channel: a channel for which `is_copyable` holds, used by nobody else meanwhile.
        send: publishes a message by way of Celery.
        named: names a message.
        made: what was made on this channel before; gets what is made here.
    """

    def __init__(self, channel: Any, send: Callable[[Publication], object], named: Naming, made: Made) -> None:
        self._channel = channel
        self._send = send
        self._named = named
        self._made = made

    def push(self, publications: Sequence[Publication]) -> None:
        """Push messages onto their lists, in order, in one round trip; raises what redis raises."""
        lists: dict[str, list[str]] = {}
        for publication in publications:
            key, text = self._written(publication)
            lists.setdefault(key, []).append(text)
        # The channel's one client: Kombu's own way to push makes a new one each time, which takes as long as the rest.
        if len(lists) == 1:
            ((key, texts),) = lists.items()
            self._channel.client.lpush(key, *texts)
            return
        with self._channel.client.pipeline(transaction=False) as pipeline:
            for key, texts in lists.items():
                pipeline.lpush(key, *texts)
            pipeline.execute()

    def _written(self, publication: Publication) -> tuple[str, str]:
        """Return the key of a message's list, and its text."""
        kind, name = (publication.queue, bool(publication.traceparent)), self._named(publication)
        stencil = self._made.get(kind)
        if stencil is not None:
            return stencil.key, stencil.text(publication.traceparent, name)
        channel = self._channel
        with _caught(channel) as messages:
            self._send(publication)
        ((queue, message),) = messages
        key = channel._q_for_pri(queue, channel._get_message_priority(message))  # noqa: SLF001 - there is no other way
        with suppress(ValueError):  # where the process has a JSON of its own, Celery writes every message
            self._made[kind] = _Stencil(key, message, publication.traceparent, name)
        return key, dumps(message)


class _Stencil:
    """A message of one kind with holes for what differs.

    Attributes:
        key: of the list that it belongs to.

    Raises:
        ValueError: what differs is not where Celery and Kombu put it.
    """

    def __init__(self, key: str, message: dict[str, Any], traceparent: str, name: Name) -> None:
        task, args = name
        self.key = key
        self._body = _with_holes(base64.b64decode(message["body"], validate=True).decode(), {_inside(args): "args"})
        holes = {
            message["body"]: "body",
            _inside(repr(args)): "argsrepr",
            task: "task",
            message["properties"]["delivery_tag"]: "tag",
        }
        if traceparent:
            holes[_inside(traceparent)] = "trace"
        self._text = _with_holes(dumps(message), holes)

    def text(self, traceparent: str, name: Name) -> str:
        """Return the message of that name."""
        task, args = name
        body = self._body % {"args": _inside(args)}
        return self._text % {
            "body": base64.b64encode(body.encode()).decode(),
            "argsrepr": _inside(repr(args)),
            "task": task,
            "tag": uuid.uuid4(),
            "trace": _inside(traceparent),
        }


def _inside(value: object) -> str:
    """Return a string or an array as JSON, without the marks around it."""
    return json.dumps(value)[1:-1]


def _with_holes(text: str, holes: dict[str, str]) -> str:
    """Return a text as a template of the operator %; each piece given becomes a hole of that name."""
    text = text.replace("%", "%%")
    for piece, name in holes.items():
        escaped = piece.replace("%", "%%")
        if escaped not in text:
            raise ValueError(name)
        text = text.replace(escaped, f"%({name})s")
    return text


@contextmanager
def _caught(channel: Any) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Catch the messages that Kombu would put into lists."""
    messages: list[tuple[str, dict[str, Any]]] = []
    channel._put = lambda queue, message, **_: messages.append((queue, message))  # noqa: SLF001 - the end of its way
    try:
        yield messages
    finally:
        del channel._put  # noqa: SLF001 - as above
