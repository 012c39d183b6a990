"""Bells: what is published with every entry of a stream, and the inboxes in which those who listen find it. No I/O.

A ring is `[id of the entry before, id, [field, value, ...] or false]`. Whoever has read up to the entry before may take
the ring for the entry; everybody else reads the stream. So rings may be lost, doubled or late: they only save reads.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Rings, and bytes of them, that one inbox holds. A full one is emptied: its reader goes on from the stream.
MOST_RINGS: Final = 64
MOST_BYTES: Final = 256 * 1024

_ENTRY_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

#: Rings of events that end nobody's reading.
_MIDDLE: Final = re.compile(
    rb'\["[0-9-]*","[0-9-]*",\["type","(?:queued|waiting|started|delta|thought|part|restarted|continued)",'
)


@dataclass(frozen=True, slots=True)
class Ring:
    """One entry of a stream, as it was rung.

    Attributes:
        before: id of the entry before it.
        id: its own.
        fields: its fields; None when they were too long to be rung.
    """

    before: str
    id: str
    fields: Mapping[str, str] | None


def parse_ring(payload: bytes) -> Ring | None:
    """Return what was rung; None when it is no ring."""
    try:
        before, entry_id, flat = json.loads(payload.decode("utf-8", "replace"))
        "".join((before, entry_id, *(flat or ())))  # the quickest way to find out that all of it is text
        fields = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else None
    except (ValueError, TypeError):
        return None
    return Ring(before, entry_id, fields) if _ENTRY_ID.fullmatch(entry_id) else None


@dataclass(frozen=True, slots=True)
class Heard:
    """What was in an inbox.

    Attributes:
        rings: channel and payload of each ring, in order.
        out_of_step: rings may have been missed before these: read the stream.
        away: why nothing can be heard at the moment.
        over: nothing will be heard here any more: listen anew, or end with `away`.
    """

    rings: tuple[tuple[str, bytes], ...] = ()
    out_of_step: bool = False
    away: Exception | None = None
    over: bool = False


class Signal(Protocol):
    """What a reader waits on: an event of threading or of asyncio."""

    def set(self) -> None:
        """Wake whoever waits."""

    def clear(self) -> None:
        """Let the next one wait."""


class Inbox:
    """Where one reader finds the rings of its channels; filled by the process's one listener.

    Args:
        channels: what it hears.
        signal: set when there is something to take.
        ends_only: leave out rings that end nobody's reading.
        leave: called when the reader goes.
    """

    def __init__(
        self, channels: Iterable[str], signal: Any, *, ends_only: bool = False, leave: Callable[[Inbox], object]
    ) -> None:
        self.channels = frozenset(channels)
        self.signal = signal
        self._ends_only = ends_only
        self._leave = leave
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._rings: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._unconfirmed = set(self.channels)
        self._out_of_step = True
        self._away: Exception | None = None
        self._over = False

    def put(self, channel: str, payload: bytes) -> None:
        """Add a ring; when there is no room, what is there is forgotten too."""
        if self._ends_only and _MIDDLE.match(payload):
            return
        with self._lock:
            if self._out_of_step:
                return
            self._rings.append((channel, payload))
            self._bytes += len(payload)
            if len(self._rings) > MOST_RINGS or self._bytes > MOST_BYTES:
                self._empty()
        self.signal.set()

    def confirm(self, channel: str) -> None:
        """Note that a channel is heard from now on; with the last one the reader may begin."""
        with self._lock:
            self._unconfirmed.discard(channel)
            if self._unconfirmed:
                return
            self._away = None
        self.signal.set()

    def lose(self, reason: Exception) -> None:
        """Note that nothing is heard until every channel is confirmed again."""
        with self._lock:
            self._empty()
            self._unconfirmed = set(self.channels)
            self._away = reason
        self.signal.set()

    def end(self, reason: Exception) -> None:
        """Note that nothing will be heard any more."""
        with self._lock:
            self._over = True
            self._away = reason
        self.signal.set()

    def take(self) -> Heard:
        """Return what came since the last time."""
        if self.foreign:
            return Heard(over=True)
        with self._lock:
            self.signal.clear()
            if self._away is not None or self._over:
                return Heard(away=self._away, over=self._over)
            if self._unconfirmed:
                return Heard()
            heard = Heard(tuple(self._rings), self._out_of_step)
            self._rings.clear()
            self._bytes = 0
            self._out_of_step = False
            return heard

    @property
    def confirmed(self) -> bool:
        """Whether every channel is heard."""
        return not self._unconfirmed

    @property
    def away(self) -> Exception | None:
        """Why nothing can be heard at the moment."""
        return self._away

    @property
    def foreign(self) -> bool:
        """Whether this process was forked from the one that listens."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Stop listening; in a forked process the inbox stays the parent's."""
        if not self.foreign:
            self._leave(self)

    def _empty(self) -> None:
        self._rings.clear()
        self._bytes = 0
        self._out_of_step = True
