"""Three readers of every stream: one that misses nothing, one that looks now and then, one that lives on rings."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from genqueue.keys import Keys

    from .link import Link

Fields = dict[bytes, bytes]


def order(entry: str) -> tuple[int, int]:
    """Return what stream ids are sorted by."""
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)


@dataclass
class Reader:
    """What one reader has of one stream: ids and fields in the order they were delivered."""

    last: str = "0-0"
    delivered: list[tuple[str, Fields]] = field(default_factory=list)

    def deliver(self, entry: str, fields: Fields) -> None:
        """Take one entry."""
        self.delivered.append((entry, fields))
        self.last = entry

    @property
    def ids(self) -> list[str]:
        """Ids of what was delivered."""
        return [entry for entry, _ in self.delivered]


class Readers:
    """The readers of a round, by flight.

    Attributes:
        steady: reads everything before it can expire: what the others are compared with.
        lazy: reads from its last id, at random moments.
        listening: delivers a ring whose id before is its last one, drops an old one, reads on any other.
    """

    def __init__(self, link: Link, keys: Keys, seen: Counter[str]) -> None:
        self._link, self._keys, self._seen = link, keys, seen
        self.steady: dict[str, Reader] = defaultdict(Reader)
        self.lazy: dict[str, Reader] = defaultdict(Reader)
        self.listening: dict[str, Reader] = defaultdict(Reader)

    def read(self, readers: dict[str, Reader], flights: Collection[str]) -> None:
        """Deliver what stands behind each reader's last entry."""
        batch = [("XRANGE", self._keys.events(flight), f"({readers[flight].last}", "+") for flight in flights]
        for flight, entries in zip(flights, self._link.commands(batch), strict=True):
            for entry, values in entries:
                readers[flight].deliver(entry.decode(), dict(zip(values[::2], values[1::2], strict=True)))

    def ring(self, flight: str, payload: bytes) -> None:
        """Hear one ring."""
        before, entry, flat = json.loads(payload)
        reader = self.listening[flight]
        if order(entry) <= order(reader.last):
            self._seen["ring old"] += 1
        elif before != reader.last or flat is False:
            self._seen["ring without fields" if flat is False else "ring out of step"] += 1
            self.read(self.listening, [flight])
        else:
            self._seen["ring delivered"] += 1
            texts = [text.encode() for text in flat]
            reader.deliver(entry, dict(zip(texts[::2], texts[1::2], strict=True)))
