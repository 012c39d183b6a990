"""The three priority lanes and the Celery queues that serve them."""

from __future__ import annotations

from typing import Final, Literal

from genqueue.errors import InvalidRequest

Lane = Literal["high", "normal", "low"]

#: Every lane, most urgent first; lane N may also be named by its number N, counted from 1.
LANES: Final[tuple[Lane, ...]] = ("high", "normal", "low")

#: The Celery task every message calls.
TASK: Final = "genqueue.generate"

#: The Celery task that admits a job for whoever speaks Celery and not this SDK, and the queue it is sent to.
SUBMIT_TASK: Final = "genqueue.submit"
SUBMIT_QUEUE: Final = "genqueue.submit"


def parse_lane(value: object) -> Lane:
    """Return the lane that a name ("high") or number (1, "1") means; raises InvalidRequest for any other."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidRequest("lane", value, "one of high, normal, low (or 1, 2, 3)")
    text = str(value).strip().lower()
    for lane in LANES:
        if text == lane:
            return lane
    if text in {"1", "2", "3"}:
        return LANES[int(text) - 1]
    raise InvalidRequest("lane", value, "one of high, normal, low (or 1, 2, 3)")


def queue_of(lane: Lane) -> str:
    """Return the queue for first deliveries of a lane."""
    return f"generate.{lane}"


def again_queue_of(lane: Lane) -> str:
    """Return the queue for what comes again (recovered, retried, interrupted), served right before its lane."""
    return f"generate.{lane}.again"


def queues_of(lane: Lane) -> tuple[str, str]:
    """Return both queues of a lane in the order they are served."""
    return again_queue_of(lane), queue_of(lane)


#: Every queue of a lane, in the order it is served by a worker without weights.
QUEUES: Final[tuple[str, ...]] = tuple(queue for lane in LANES for queue in queues_of(lane))
