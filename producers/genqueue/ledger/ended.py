"""Reading the finished streams as a consumer of a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.keys import Keys

#: Where a group begins that is made by reading: with the oldest job kept, or with those that end from then on.
Start = Literal["oldest", "newest"]


@dataclass(frozen=True, slots=True)
class Consumer:
    """One reader of a group.

    Attributes:
        name: its name in the group; the same name gets again what it had not acknowledged.
        idle_ms: how long another consumer may be silent about a job until this one takes it over.
        most: entries one read of a partition returns at most.
    """

    group: str
    name: str
    start: Start = "oldest"
    idle_ms: int = 60_000
    most: int = 16


@dataclass(frozen=True, slots=True)
class Ended:
    """One entry of a finished stream.

    Attributes:
        id: the entry's stream id.
        fields: as they stand in the stream.
    """

    id: str
    partition: int
    fields: dict[str, str]


def take(keys: Keys, partition: int, consumer: Consumer, *, own: bool, others: bool) -> Call:
    """Return the call that reads a partition's jobs: new ones, and which the group had before.

    `own` puts first what this consumer was given and has not acknowledged; `others` takes over what silent consumers
    left.
    """
    start, idle = "0" if consumer.start == "oldest" else "$", consumer.idle_ms if others else ""
    args = (0, consumer.group, consumer.name, consumer.most, start, int(own), idle)
    return Call(scripts.TAKE, (keys.slot(partition),), args)


def parse_take(partition: int, reply: Any) -> tuple[bool, list[Ended]]:
    """Return whether these were given to the consumer before, and the entries."""
    own, entries = reply
    return own == 1, [Ended(text(entry), partition, _mapping(values)) for entry, values in entries]


def acknowledge(keys: Keys, partition: int, consumer: Consumer, done: str, wanted: str) -> Call:
    """Return the call that acknowledges one entry and keeps another, by their ids; "" for none."""
    return Call(scripts.ACKNOWLEDGE, (keys.slot(partition),), (0, consumer.group, consumer.name, done, wanted))


def _mapping(values: Sequence[bytes]) -> dict[str, str]:
    texts = [value.decode("utf-8", "replace") for value in values]
    return dict(zip(texts[::2], texts[1::2], strict=True))
