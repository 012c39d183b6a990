"""Looking after a partition, and the stamps popped from its queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.ledger.submission import Publication
from genqueue.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from genqueue.keys import Keys


Why = Literal["lost", "due", "unheard", "dead"]


@dataclass(frozen=True, slots=True)
class QueueReading:
    """What a worker knows about a queue: the highest stamp popped by anybody, and whether it is empty."""

    queue: str
    popped: int
    empty: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """One look at a partition.

    Attributes:
        limit: flights looked at per list; also jobs taken off, and cached answers let go of.
        slack_ms: how far behind the highest stamp popped a message counts as lost.
        grace_high_ms, grace_other_ms: lease given once to every holder after an outage, on lane high and the others.
        min_interval_ms: a sweep sooner after the last one does nothing.
        memory_high_water: percent of the server's memory from which on it is short; 100 is never.
    """

    limit: int
    slack_ms: int
    grace_high_ms: int
    grace_other_ms: int
    min_interval_ms: int
    queues: Sequence[QueueReading] = ()
    memory_high_water: int = 85


@dataclass(frozen=True, slots=True)
class Swept:
    """One flight that a sweep did something about.

    Attributes:
        why: "lost": its worker was; "due": it has waited; "unheard": its message was lost; "dead": it ended as a dead
            letter.
        publication: what must be published; None when it ended.
    """

    why: Why
    publication: Publication | None
    flight: str


def sweep(keys: Keys, partition: int, look: Sweep, now_ms: int = 0) -> Call:
    """Return the call that looks after a partition."""
    readings = [part for q in look.queues for part in (q.queue, q.popped, int(q.empty))]
    head = (now_ms, look.limit, look.slack_ms, look.grace_high_ms, look.grace_other_ms, look.min_interval_ms)
    return Call(scripts.SWEEP, (keys.slot(partition),), (*head, look.memory_high_water, *readings))


def parse_sweep(reply: Any) -> list[Swept]:
    """Return the flights that something was done about."""
    found = []
    for flight, queue, stamp, why in (map(text, item) for item in reply):
        publication = Publication(flight, queue, int(stamp)) if queue else None
        found.append(Swept(cast("Why", why), publication, flight))
    return found


def publications(found: Iterable[Swept]) -> list[Publication]:
    """Return what must be published of what a sweep found."""
    return [one.publication for one in found if one.publication is not None]


def mark(keys: Keys, popped: Mapping[str, int]) -> Call:
    """Return the call that notes the highest stamp popped from each queue."""
    return Call(scripts.MARK, (keys.marks(),), tuple(part for pair in popped.items() for part in pair))


def parse_marks(reply: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the highest stamp popped from each queue, from the hash at `keys.marks()`."""
    return {queue.decode(): int(stamp) for queue, stamp in reply.items() if stamp.isdigit()}
