"""A broker that loses, doubles and delays messages."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

from genqueue.ledger import Publication, QueueReading

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


class Broker:
    """The queues of a round.

    Attributes:
        popped: highest stamp popped, by queue.
    """

    def __init__(self, dice: random.Random, seen: Counter[str]) -> None:
        self._dice, self._seen = dice, seen
        self._queues: dict[str, deque[Publication]] = defaultdict(deque)
        self._late: list[Publication] = []
        self.popped: Counter[str] = Counter()

    def publish(self, message: Publication, *, reliable: bool = False) -> None:
        """Put a message into its queue: not at all, once, or once now and once at any later time."""
        chance = 1.0 if reliable else self._dice.random()
        if chance < 0.12:
            self._seen["message lost"] += 1
            return
        self._queues[message.queue].append(message)
        if chance < 0.25:
            self._seen["message doubled"] += 1
            self._late.append(message)

    def bring_double(self) -> None:
        """Deliver one of the doubles."""
        if self._late:
            message = self._late.pop(self._dice.randrange(len(self._late)))
            self._queues[message.queue].append(message)

    def pop(self) -> Publication | None:
        """Return the next message of a random queue, None when all are empty."""
        filled = [queue for queue, messages in self._queues.items() if messages]
        if not filled:
            return None
        queue = self._dice.choice(filled)
        message = self._queues[queue].popleft()
        self.popped[queue] = max(self.popped[queue], message.stamp)
        return message

    def readings(self, queues: Sequence[str]) -> list[QueueReading]:
        """Return what workers report of the queues."""
        return [QueueReading(queue, self.popped[queue], not self._queues[queue]) for queue in queues]
