"""Between an operation and who carries it out: replies on the way in, events on the way out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from genqueue.errors import ServerUnavailable
from genqueue.events import Event

if TYPE_CHECKING:
    from genqueue.payload.codec import Codec
    from genqueue.steps import Following, Step

T = TypeVar("T")
Y = TypeVar("Y")


def resume(operation: Following[Y, T], reply: object) -> Step | Y:
    """Give an operation the reply it waits for and return what it asks next."""
    return operation.throw(reply) if isinstance(reply, ServerUnavailable) else operation.send(reply)


def opened(codec: Codec, item: Y) -> Y:
    """Return what an operation has for its reader as he gets it: what was sealed in an event opened."""
    if not isinstance(item, Event):
        return item
    fields = codec.open_entry(item.fields)
    return item if fields is item.fields else cast("Any", replace(item, fields=fields))
