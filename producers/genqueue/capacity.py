"""When there is no room: what a submit is told by a data server that is short of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import OutOfMemoryError

from genqueue.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.lanes import Lane

#: Seconds after which a refused job may come again, by lane: the more urgent find room first.
RETRY_AFTER: Final[Mapping[Lane, float]] = {"high": 2.0, "normal": 5.0, "low": 15.0}


def short_of_memory(lane: Lane, used: int | None) -> QueueFull:
    """Return the error for a job refused above the high-water mark; `used` is in percent of the server's memory."""
    reason = f"the data server has used {used} % of its memory (see GENQUEUE_MEMORY_HIGH_WATER)"
    return QueueFull(lane, RETRY_AFTER[lane], reason)


def is_out_of_memory(answer: object) -> bool:
    """Whether a server that has no memory left has refused what was asked."""
    return isinstance(answer, OutOfMemoryError)


def out_of_memory(lane: Lane) -> QueueFull:
    """Return the error for a job that such a server has refused."""
    return QueueFull(lane, RETRY_AFTER[lane], "the data server has no memory left (maxmemory)")
