"""Looking after a partition, and the stamps popped from its queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.ledger.submission import Publication
from genqueue.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.keys import Keys


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
        limit: flights looked at per list.
        slack_ms: how far behind the highest stamp popped a message counts as lost.
        lease_grace_ms: lease given once to every holder after an outage.
        min_interval_ms: a sweep sooner after the last one does nothing.
    """

    limit: int
    slack_ms: int
    lease_grace_ms: int
    min_interval_ms: int
    queues: Sequence[QueueReading] = ()


def sweep(keys: Keys, partition: int, look: Sweep, now_ms: int = 0) -> Call:
    """Return the call that looks after a partition."""
    readings = [part for q in look.queues for part in (q.queue, q.popped, int(q.empty))]
    head = (now_ms, look.limit, look.slack_ms, look.lease_grace_ms, look.min_interval_ms)
    return Call(scripts.SWEEP, (keys.slot(partition),), (*head, *readings))


def parse_sweep(reply: Any) -> list[Publication]:
    """Return what must be published."""
    return [Publication(text(flight), text(queue), int(stamp)) for flight, queue, stamp in reply]


def mark(keys: Keys, popped: Mapping[str, int]) -> Call:
    """Return the call that notes the highest stamp popped from each queue."""
    return Call(scripts.MARK, (keys.marks(),), tuple(part for pair in popped.items() for part in pair))


def parse_marks(reply: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the highest stamp popped from each queue, from the hash at `keys.marks()`."""
    return {queue.decode(): int(stamp) for queue, stamp in reply.items() if stamp.isdigit()}
