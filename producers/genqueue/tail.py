"""Following a flight's stream: from any entry, through reconnects, to the end of one job."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from genqueue import events
from genqueue.errors import InvalidRequest, ServerUnavailable, StreamGone, WaitTimeout
from genqueue.patience import Patience, persist
from genqueue.steps import BLOCK, Query, Wait

if TYPE_CHECKING:
    from genqueue.events import Event
    from genqueue.steps import Operation, Tailing

Entries = list[tuple[bytes, dict[bytes, bytes]]]

#: Each half of an entry's id is less.
_ID_LIMIT = 2**64

_ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one job's events are.

    Attributes:
        job_id: the job.
        flight: the flight it is a member of.
        mark: the leave mark: a `left` event with it ends this job.
        stream: key of the flight's event stream.
        job_key: key of the job.
        flight_key: key of the flight.
    """

    job_id: str
    flight: str
    mark: str
    stream: str
    job_key: str
    flight_key: str


def position(after: Event | str | None) -> str:
    """Return the entry id to read behind; raises InvalidRequest when it is none."""
    if after is None:
        return "0-0"
    entry_id = after.id if isinstance(after, events.Event) else after
    if isinstance(entry_id, str) and _ENTRY_ID.fullmatch(entry_id) and max(_order(entry_id)) < _ID_LIMIT:
        return entry_id
    raise InvalidRequest("after", entry_id, "an event's id, like 1700000000000-0")


def tail(reference: Reference, after: Event | str | None, patience: Patience) -> Tailing[None]:
    """Yield the job's events behind `after`, ending with its last one.

    Raises:
        StreamGone: the stream has expired, or expires while it is read.
        WaitTimeout: the caller's timeout passed; never in front of events that are there already.
        ServerUnavailable: the server was away for longer than the patience allows.
    """
    last = position(after)
    deadline = None if patience.timeout is None else time.monotonic() + patience.timeout
    if after is not None and (yield from persist(lambda: _ended_before(reference, last), patience)):
        return
    # Every stream has a first entry from its beginning, so there is nothing to wait for.
    block = 0.0 if after is None else BLOCK
    while True:
        read = partial(_read, reference, last, Waiting(block, deadline, patience.timeout or 0))
        entries = yield from persist(read, patience)
        block = BLOCK
        for entry_id, raw in entries:
            event = events.decode(entry_id, raw)
            last = event.id
            if event.type == "left" and event.fields.get("mark") != reference.mark:
                continue  # another member's end
            yield event
            if event.terminal or event.type == "left":
                return


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long one read may take.

    Attributes:
        block: seconds for the first entry to come.
        deadline: moment, by the monotonic clock, at which the caller's timeout passes.
        timeout: that timeout, for the message.
    """

    block: float
    deadline: float | None
    timeout: float

    def left(self) -> float:
        """Return seconds until the deadline; 0 when it has passed."""
        return BLOCK if self.deadline is None else max(0.0, self.deadline - time.monotonic())


def _read(reference: Reference, last: str, waiting: Waiting) -> Operation[Entries]:
    left = waiting.left()
    try:
        entries: Entries = yield Wait(reference.stream, last, min(waiting.block, left))
        if entries:
            return entries
        # A blocking read of an absent key waits for ever.
        (exists,) = yield Query((("EXISTS", reference.stream),))
    except ServerUnavailable as away:
        if left:
            raise
        raise WaitTimeout(reference.job_id, waiting.timeout) from away
    if not exists:
        raise StreamGone(reference.job_id)
    if not left:
        raise WaitTimeout(reference.job_id, waiting.timeout)
    return entries


def _ended_before(reference: Reference, last: str) -> Operation[bool]:
    """Return whether the job's own last event is at or before an entry, so that nothing is to come."""
    newest, left = yield Query(
        (("XREVRANGE", reference.stream, "+", "-", "COUNT", 1), ("HGET", reference.job_key, "left"))
    )
    if not newest:
        raise StreamGone(reference.job_id)
    entry = events.decode(*newest[0])
    if entry.terminal and _order(entry.id) <= _order(last):
        return True
    if left is None:
        return False
    (entries,) = yield Query((("XRANGE", reference.stream, "-", last),))
    return any(events.decode(*item).fields.get("mark") == reference.mark for item in entries)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
