"""What a worker fetches next: nothing beyond its free slots, and the lanes in weighted turns.

Kombu's Redis transport asks a queue-order strategy right before every blocking pop, takes one message per pop, and
sends no pop when the answer is empty. Name it in `broker_transport_options`:
`{"queue_order_strategy": "genqueue_worker.slots:Gate", "priority_steps": [0]}`.
"""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING, Final

from genqueue.lanes import LANES, SUBMIT_QUEUE, queues_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What takes turns besides the lanes: requests to admit, each of which holds its slot for some milliseconds only.
ADMISSION: Final = "admission"

#: How many pops each lane gets of every 12 while all of them have work, and as many go to requests to admit.
WEIGHTS: Final[dict[str, int]] = {ADMISSION: 12, "high": 8, "normal": 3, "low": 1}

#: What one pop costs a lane: whole numbers in the proportion of 1 / weight.
COSTS: Final[dict[str, int]] = {lane: lcm(*WEIGHTS.values()) // weight for lane, weight in WEIGHTS.items()}

#: No lane has popped yet: each stands one pop of its own ahead.
FIRST_TURNS: Final[dict[str, int]] = COSTS

_QUEUES_OF: Final[dict[str, tuple[str, ...]]] = {
    ADMISSION: (SUBMIT_QUEUE,),
    **{lane: queues_of(lane) for lane in LANES},
}

_LANE_OF: Final = {queue: lane for lane, queues in _QUEUES_OF.items() for queue in queues}

_RANK: Final = tuple(WEIGHTS)

#: One slot in so many may hold a request that waits to be admitted.
CROWD: Final = 10

#: Where else messages of a queue are: clients that give one a priority have kombu put it beside the queue.
_BESIDE: Final = {SUBMIT_QUEUE: tuple(f"{SUBMIT_QUEUE}\x06\x16{step}" for step in (3, 6, 9))}

#: End of the names of Celery's reply queues: these carry answers, not tasks, and are never held.
_REPLIES = ".pidbox"


class Slots:
    """How many tasks this process runs and how many it may run. For the hub thread only, but for `held`.

    Attributes:
        limit: tasks that may run at once; None (outside a worker, where nothing is held) is no limit.
        running: tasks that run now; may exceed the limit after a shrink or when a countdown ends.
        held: reasons for which nothing is fetched, though slots may be free; any thread may add and discard its own,
            and the hub, which looks at least once a second, goes by it.
        closed: lanes of which nothing is fetched; the loop writes, any thread may look.
        popped: messages fetched so far; any thread may look.
        waiting: of the tasks that run, requests that wait to be admitted; the loop writes, any thread may look.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.running = 0
        self.held: set[str] = set()
        self.closed: frozenset[str] = frozenset()
        self.popped = 0
        self.waiting = 0

    @property
    def crowded(self) -> bool:
        """Whether so many requests wait to be admitted that no more are fetched: the slots are for what was."""
        return self.limit is not None and self.waiting * CROWD >= self.limit

    def is_open(self, queue: str) -> bool:
        """Whether messages of a queue are fetched when a slot is free."""
        return _LANE_OF.get(queue) not in self.closed

    @property
    def free(self) -> bool:
        """Whether one more task may start."""
        return not self.held and (self.limit is None or self.running < self.limit)

    def take(self) -> None:
        """Count one more running task."""
        self.running += 1

    def give(self) -> None:
        """Count one running task less."""
        self.running -= 1


#: The slots of this process: the pool counts, every gate looks.
SLOTS: Final = Slots()


def queue_order(queues: Iterable[str], turns: Mapping[str, int]) -> list[str]:
    """Return queues in the order to pop them: lanes by their turn, `again` before its lane, unknown queues last."""
    known = list(queues)
    lanes = sorted(_RANK, key=lambda lane: (turns[lane], _RANK.index(lane)))
    served = [queue for lane in lanes for queue in _QUEUES_OF[lane] if queue in known]
    return served + [queue for queue in known if queue not in _LANE_OF]


def next_turns(turns: Mapping[str, int], order: Sequence[str], popped: str) -> dict[str, int]:
    """Return the turns after one pop from `popped` with the queues in `order`.

    The lane pays for its pop. Lanes before it in the order were empty, or they would have been popped: they are moved
    to one pop from now, so that an idle lane saves nothing up and its share flows on.
    """
    after = dict(turns)
    lane = _LANE_OF.get(popped)
    if lane is None:
        return after
    for passed in {_LANE_OF[queue] for queue in order[: order.index(popped) + 1] if queue in _LANE_OF}:
        after[passed] = max(after[passed], turns[lane] + COSTS[passed])
    return after


class Gate:
    """Queue-order strategy for kombu's Redis transport; one per channel.

    All open lanes or none: a pop that waits names each, so no lane can gain room behind its back. When the last slot
    was taken no pop waits at all, and the pool wakes the hub when a slot is given back.
    """

    def __init__(self, slots: Slots = SLOTS) -> None:
        self._slots = slots
        self._queues: list[str] = []
        self._turns: Mapping[str, int] = FIRST_TURNS
        self._sent: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """Take the queues that are consumed from now on."""
        self._queues = list(queues)

    def consume(self, count: int) -> list[str]:
        """Return what to pop from of the first `count` queues, in order; no tasks while no slot is free."""
        queues = self._queues[:count]
        if not self._slots.free:
            return [queue for queue in queues if queue.endswith(_REPLIES)]
        if self._slots.crowded:
            queues = [queue for queue in queues if queue != SUBMIT_QUEUE]
        self._sent = queue_order(queues, self._turns)
        opened = filter(self._slots.is_open, self._sent)
        return [key for queue in opened for key in (queue, *_BESIDE.get(queue, ()))]

    def rotate(self, last_used: str) -> str:
        """Account for a message popped from a queue and return the queue."""
        self._slots.popped += 1
        if last_used in self._sent:
            self._turns = next_turns(self._turns, self._sent, last_used)
        if last_used in self._queues and last_used not in _LANE_OF:
            self._queues.remove(last_used)
            self._queues.append(last_used)
        return last_used
