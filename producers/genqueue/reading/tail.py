"""Following a flight's stream: from any entry, through lost connections, to the end of one job."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue import events, ledger
from genqueue.errors import ServerUnavailable, StreamGone, WaitTimeout
from genqueue.patience import Limit, Outage
from genqueue.reading import expiry
from genqueue.reading.bells import parse_ring
from genqueue.reading.ear import Ear
from genqueue.reading.place import BEGINNING, Place, order, position
from genqueue.steps import Pause, Read, Run

if TYPE_CHECKING:
    from genqueue.events import Event
    from genqueue.keys import Keys
    from genqueue.patience import Patience
    from genqueue.steps import Operation, Tailing

#: Entries one read of a stream returns at most.
PAGE: Final = 512

#: Seconds of silence after which a reader looks for himself: it heals what nobody thought of and finds what is gone.
POLL: Final = 10.0

#: Seconds that a ring may take, for an entry that is known to be there.
UNHEARD: Final = 1.0

#: What `tail(..., heartbeat=seconds)` yields when nothing came for so long; no entry of the stream, and its id is "".
SILENCE: Final = events.Event(id="", type="silence")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one job's events are.

    Attributes:
        job_id: the job.
        flight: the flight it is a member of.
        mark: the leave mark: a `left` event with it ends this job.
        keys: the deployment's keys.
    """

    job_id: str
    flight: str
    mark: str
    keys: Keys

    # Not kept: there may be a million handles of which few are ever read.

    @property
    def stream(self) -> str:
        """Key of the flight's event stream."""
        return self.keys.events(self.flight)

    @property
    def job_key(self) -> str:
        """Key of the job."""
        return self.keys.job(self.job_id)

    @property
    def flight_key(self) -> str:
        """Key of the flight."""
        return self.keys.flight(self.flight)

    @property
    def bell(self) -> str:
        """Channel that is rung with each event."""
        return self.keys.bell(self.flight)


def tail(
    reference: Reference, after: Event | str | None, patience: Patience, heartbeat: float | None = None
) -> Tailing[None]:
    """Yield the job's events behind `after`, ending with its last one.

    With a heartbeat, yields SILENCE whenever nothing came for that many seconds. Soon after its deadline a job that
    nobody has ended is ended here: there may be no worker.

    Raises:
        StreamGone: the stream has expired, or expires while it is read.
        WaitTimeout: the caller's timeout passed; never in front of events that are there already.
        ServerUnavailable: the server was away for longer than the patience allows.
    """
    reader = _Reader(reference, after, Limit(patience), heartbeat)
    try:
        while not reader.place.ended:
            yield from reader.wait()
    finally:
        reader.close()


class _Reader:
    """Reads on behind its place, and waits for more."""

    def __init__(self, reference: Reference, after: Event | str | None, limit: Limit, heartbeat: float | None) -> None:
        self.place = Place(reference.mark, position(after))
        self._reference = reference
        self._after = after
        self._limit = limit
        self._heartbeat = heartbeat
        self._ear = Ear((reference.bell,), limit)
        self._outage, self._refused = Outage(limit.reconnect), Outage(limit.reconnect)
        self._behind = True
        self._poll_at = self._silent_at = 0.0
        self._expire_at, self._not_before = math.inf, 0.0
        self._note_event()

    def close(self) -> None:
        """Listen no more."""
        self._ear.close()

    def wait(self) -> Tailing[None]:
        """Yield what comes next, as soon as it comes, or SILENCE; raises as `tail`."""
        overdue = self._limit.passed
        if self._behind or overdue:
            yield from self._catch_up()
        if self._due:
            yield from self._expire()
        if self.place.ended:
            return
        if overdue:
            raise self._timeout()
        if not self._behind:
            yield from self._listen()
        if self._heartbeat is not None and time.monotonic() >= self._silent_at:
            yield SILENCE
            self._silent_at = time.monotonic() + self._heartbeat

    def _catch_up(self) -> Tailing[None]:
        """Yield what the stream has behind the place; while the server is away, wait a little instead."""
        self._behind = True
        try:
            if self._after is not None:
                yield from self._resume(self._after)
                self._after = None
            while not self.place.ended and (yield from self._read_page()):
                pass
        except ServerUnavailable as away:
            if self._limit.passed:
                raise self._timeout() from away
            yield from self._sit_out(self._outage.note(away))
        else:
            self._outage.end()
            self._behind = False
            self._poll_at = time.monotonic() + POLL

    @property
    def _due(self) -> bool:
        """Whether the job is to be ended here, as far as the stream is known."""
        return not (self._behind or self.place.ended) and time.monotonic() >= self._expire_at

    def _expire(self) -> Tailing[None]:
        """End the job, whose deadline has passed, and yield what the stream has then, if nobody rings for it."""
        reference = self._reference
        try:
            departed = ledger.parse_leave((yield Run(ledger.leave(reference.keys, reference.job_id, "expired"))))
        except ServerUnavailable as away:
            # Whoever may read may not be allowed to write: that has a patience of its own.
            self._expire_at = self._not_before = time.monotonic() + self._refused.note(away)
            return
        self._refused.end()
        self._expire_at = self._not_before = expiry.next_moment(departed)
        if departed.status in {"ended", "left"} and self._ear.open and not self._limit.passed:
            self._poll_at = time.monotonic() + UNHEARD  # its ring is on the way
        elif departed.status != "early":
            yield from self._catch_up()

    def _sit_out(self, seconds: float) -> Operation[None]:
        seconds = self._patient(seconds)
        if self._ear.deaf:
            yield from self._ear.hear(seconds)  # returns as soon as there is a server again
        else:
            yield Pause(seconds)

    def _resume(self, after: Event | str) -> Operation[None]:
        """Remember the event behind which to go on, and whether the job's own end lies before that."""
        place, reference = self.place, self._reference
        left, entries = yield Read(
            (("HGET", reference.job_key, "left"), ("XRANGE", reference.stream, place.last, place.last))
        )
        if entries:
            place.seed(events.decode(*entries[0]))
        elif isinstance(after, events.Event) and after.n > 0:
            place.seed(after)
        elif any(order(place.last)):
            place.seed(None)  # a server that crashed has lost it
        if left is not None:
            (entries,) = yield Read((("XRANGE", reference.stream, "-", place.last),))
            place.ended = any(events.decode(*entry).fields.get("mark") == reference.mark for entry in entries)

    def _read_page(self) -> Tailing[bool]:
        """Yield the events of one page; returns whether there may be more."""
        place, reference = self.place, self._reference
        (left, deadline), page, newest, clock = yield Read(
            (
                ("HMGET", reference.job_key, "left", "deadline"),
                ("XREAD", "COUNT", PAGE, "STREAMS", reference.stream, place.last),
                ("XREVRANGE", reference.stream, "+", "-", "COUNT", 1),
                expiry.CLOCK,
            )
        )
        if not newest:
            raise StreamGone(reference.job_id)
        self._expire_at = max(expiry.moment(deadline, clock), self._not_before)
        entries = page[0][1] if page else ()
        for entry_id, raw in entries:
            for event in place.read(entry_id, raw):
                yield event
                self._note_event()
            if place.ended:
                return False
            if place.last == BEGINNING:
                return True
        if not entries:
            last = events.decode(*newest[0])
            # There is nothing behind the place, so an end that has come lies before it. `left` was asked for first.
            place.ended = left is not None or (last.ends(place.mark) and order(last.id) <= order(place.last))
            return False
        # Whoever has no time left is shown all there is, so he asks until there is nothing.
        return len(entries) == PAGE or self._limit.passed

    def _listen(self) -> Tailing[None]:
        """Yield what is rung within the time there is."""
        # While nothing can be heard there is nothing to look at either.
        until = math.inf if self._ear.deaf else max(0.0, min(self._poll_at, self._expire_at) - time.monotonic())
        try:
            heard = yield from self._ear.hear(self._patient(until))
        except ServerUnavailable:
            if not self._limit.passed:
                raise
            return
        self._behind = heard.out_of_step or (heard.away is None and time.monotonic() >= self._poll_at)
        for _, payload in heard.rings:
            if self._behind or self.place.ended:
                return
            yield from self._take(payload)

    def _take(self, payload: bytes) -> Tailing[None]:
        ring = parse_ring(payload)
        shown, self._behind = ((), True) if ring is None else self.place.hear(ring)
        for event in shown:
            yield event
            self._note_event()

    def _patient(self, seconds: float) -> float:
        """Return how long to wait at most: until the caller's time is over or silence has to be told."""
        if self._heartbeat is not None:
            seconds = min(seconds, max(0.0, self._silent_at - time.monotonic()))
        return self._limit.left(seconds)

    def _note_event(self) -> None:
        now = time.monotonic()
        self._poll_at = now + POLL
        self._silent_at = now + (self._heartbeat or 0.0)

    def _timeout(self) -> WaitTimeout:
        return WaitTimeout(self._reference.job_id, self._limit.timeout)
