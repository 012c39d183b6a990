"""A job's events as frames of a server-sent event stream. No I/O."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.errors import GenqueueError
    from genqueue.events import Event

#: Tells a browser after how many ms to come back when the connection broke; the first frame, at once.
RETRY: Final = "retry: 1000\n\n"

#: Says nothing, and so finds out whether anybody still listens.
HEARTBEAT: Final = ": still here\n\n"

#: What some readers take for the end of a line, though neither JSON nor the standard does.
_LINE_ENDS: Final = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}

_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def frame(event: Event) -> str:
    """Return an event: its id, its type, and its fields as JSON; a heartbeat for what is none."""
    if not event.id:
        return HEARTBEAT
    # A type of another shape could end the line; readers know none such.
    name = event.type if _TYPE.fullmatch(event.type) else "unknown"
    return f"id: {event.id}\nevent: {name}\ndata: {_json(event.fields)}\n\n"


def closing(name: str, job_id: str, error: GenqueueError) -> str:
    """Return the last frame of a stream that ends otherwise than its job: "gone" or "error".

    It carries no id, so that whoever comes back goes on from the last event. Of the error it says what kind it is: its
    message may name servers.
    """
    meaning = (type(error).__doc__ or "").partition("\n")[0]
    return f"event: {name}\ndata: {_json({'code': code_of(error), 'message': meaning, 'job_id': job_id})}\n\n"


def code_of(error: GenqueueError) -> str:
    """Return an error's code: "server_unavailable" for ServerUnavailable."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":")).translate(_LINE_ENDS)
