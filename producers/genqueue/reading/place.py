"""Where a reader is in a flight's stream: what he was shown, what is a repeat, and when he is at his end. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from genqueue import events
from genqueue.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.events import Event
    from genqueue.reading.bells import Ring

#: Each half of an entry's id is less.
_ID_LIMIT: Final = 2**64

_ENTRY_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

#: In front of every entry.
BEGINNING: Final = "0-0"

#: Attempt and number of a last entry that nobody knows: unlike all others, and behind them.
_ANY_ATTEMPT: Final = -1
_ANY_NUMBER: Final = 10**18

#: Number of a last entry of which only the attempt is known.
_SOME_NUMBER: Final = -1

#: Types behind which an attempt's numbers begin.
_BEGINNINGS: Final = frozenset({"restarted", "continued"})


def order(entry_id: str) -> tuple[int, int]:
    """Return an entry's id as what ids are compared by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def position(after: Event | str | None) -> str:
    """Return the entry id to read behind; raises InvalidRequest when it is none."""
    if after is None:
        return BEGINNING
    entry_id = after.id if isinstance(after, events.Event) else after
    if isinstance(entry_id, str) and _ENTRY_ID.fullmatch(entry_id) and max(order(entry_id)) < _ID_LIMIT:
        return entry_id
    raise InvalidRequest("after", entry_id, "an event's id, like 1700000000000-0")


class Place:
    """One reader's place in one stream.

    Args:
        mark: the leave mark that ends this reader's part.
        after: the id to read behind.

    Attributes:
        mark: the leave mark.
        last: id of the last entry that was seen, shown or not.
        ended: whether nothing more is to come for this reader.
        rewound: whether it had to begin again: the stream was set back behind what was shown.
    """

    def __init__(self, mark: str, after: str = BEGINNING) -> None:
        self.last = after
        self.ended = False
        self.rewound = False
        self.mark = mark
        self._attempt = 0
        self._n = 0
        self._run: str | None = None

    def seed(self, event: Event | None) -> None:
        """Remember the event one resumes behind, as far as it is known: what comes is a repeat of it, or is not.

        None stands for one that is not there: a server came back without it, and nobody knows what was shown.
        """
        if event is None:
            self._attempt, self._n = _ANY_ATTEMPT, _ANY_NUMBER
        else:
            # Only `started` tells its run. For others the next `started` counts as another's: even if it is the same
            # again, all that followed it comes again too.
            numbered = event.n > 0 or event.type in _BEGINNINGS
            self._attempt, self._n = event.attempt, event.n if numbered else _SOME_NUMBER
            self._run = event.fields.get("run")

    def read(self, entry_id: bytes, raw: Mapping[bytes, bytes]) -> Sequence[Event]:
        """Take the next entry of the stream; returns the events to show."""
        return self._pass(events.decode(entry_id, raw))

    def hear(self, ring: Ring) -> tuple[Sequence[Event], bool]:
        """Take a ring; returns the events to show, and whether the stream has to be read."""
        if ring.before == self.last:
            if ring.fields is None:
                return (), True
            shown = self._pass(events.of_fields(ring.id, ring.fields))
            return shown, self.last != ring.id
        if order(ring.id) > order(self.last):
            return (), True
        # Read before. Or one resumes behind an id later than any there is: his end is one all the same.
        if ring.fields is not None and events.of_fields(ring.id, ring.fields).ends(self.mark):
            self.ended = True
        return (), False

    def _pass(self, event: Event) -> Sequence[Event]:
        self.last = event.id
        self.ended = event.ends(self.mark)
        if event.type == "left" and not self.ended:
            return ()  # another member's end
        if event.type == "restarted":
            # What is to come is new, even if a server that forgot an attempt counts it again.
            self._attempt, self._n = event.attempt, 0
        elif event.type == "continued":
            return self._continue(event)
        return self._number(event) if event.n > 0 else (event,)

    def _continue(self, event: Event) -> Sequence[Event]:
        """Keep what was shown, if that is what the next attempt goes on from."""
        known = self._attempt != 0 and self._n != _SOME_NUMBER
        before = (event.attempt - 1, events.number(event.fields.get("kept")))
        if known and (self._attempt, self._n) != before and not self.rewound:
            return self._begin_again(event)
        self._attempt, self._n = event.attempt, 0
        return (event,)

    def _number(self, event: Event) -> Sequence[Event]:
        """Take an entry that an attempt wrote; a server may have come back without some that were shown."""
        run = event.fields.get("run", self._run) if event.type == "started" else self._run
        another, begun = run != self._run, self._n > 1
        if not another and event.attempt == self._attempt and event.n <= self._n:
            return ()  # written again, behind another id
        if event.n > 1 and event.attempt != self._attempt != 0 and not self.rewound:
            return self._begin_again(event)
        self._attempt, self._n, self._run = event.attempt, event.n, run
        return (_restarted(event, event.id), event) if another and begun else (event,)

    def _begin_again(self, event: Event) -> Sequence[Event]:
        """Go back to the beginning: this goes on with something else than what was shown last."""
        self.rewound = True  # once: whatever stands in a stream, reading it ends
        self.last = BEGINNING
        self._attempt, self._n, self._run = 0, 0, None
        return (_restarted(event, BEGINNING),)


def _restarted(event: Event, entry_id: str) -> Event:
    """Return what discards all that was shown: the server, which forgot it, has not said so."""
    fields = {"type": "restarted", "v": "1", "attempt": str(event.attempt), "n": "0", "reason": "lost"}
    return events.of_fields(entry_id, fields)
