"""One round's world: its clock, its broker that loses and doubles messages, and every call it makes of the ledger."""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from genqueue import ledger

from .model import Model
from .readers import Readers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from genqueue.keys import Keys
    from genqueue.scripts import Call, Script

    from .link import Link

#: The round's clock at its start (ms).
START_MS = 1_000_000
#: The only partition of a round.
PARTITION = 0
LEASES = ledger.Leases(high=4000, normal=15_000, low=15_000)

#: Lowers the time to live of every key by ARGV[1] ms. Returns the keys without one.
_AGE = """
local eternal = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left == -1 then eternal[#eternal + 1] = key end
  if left > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, left - ARGV[1]) else redis.call('DEL', key) end
end
return eternal
"""


@dataclass(frozen=True)
class Command:
    """A ledger call that can be made, and made again."""

    name: str
    build: Callable[[Keys, int], Call]
    observe: Callable[[Any, int], Any]


class Broker:
    """Queues of (flight, stamp) that lose, double and delay messages.

    Attributes:
        popped: highest stamp popped, by queue.
    """

    def __init__(self, dice: random.Random, seen: Counter[str]) -> None:
        self._dice, self._seen = dice, seen
        self._queues: dict[str, deque[tuple[str, int]]] = defaultdict(deque)
        self._stale: list[tuple[str, str, int]] = []
        self.popped: Counter[str] = Counter()

    def publish(self, message: ledger.Publication, *, reliable: bool = False) -> None:
        """Put a message into its queue: not at all, once, or twice."""
        chance = 1.0 if reliable else self._dice.random()
        if chance < 0.12:
            self._seen["message lost"] += 1
            return
        self._queues[message.queue].append((message.flight, message.stamp))
        if chance < 0.25:
            self._seen["message doubled"] += 1
            self._stale.append((message.queue, message.flight, message.stamp))

    def bring_back(self) -> None:
        """Deliver one of the doubles, however late."""
        if self._stale:
            queue, *message = self._stale.pop(self._dice.randrange(len(self._stale)))
            self._queues[queue].append((str(message[0]), int(message[1])))

    def pop(self) -> tuple[str, int] | None:
        """Return the next message of a random queue, None when all are empty."""
        filled = [queue for queue, messages in self._queues.items() if messages]
        if not filled:
            return None
        queue = self._dice.choice(filled)
        flight, stamp = self._queues[queue].popleft()
        self.popped[queue] = max(self.popped[queue], stamp)
        return flight, stamp

    def readings(self, queues: Sequence[str]) -> list[ledger.QueueReading]:
        """Return what workers report of the queues."""
        return [ledger.QueueReading(queue, self.popped[queue], not self._queues[queue]) for queue in queues]
