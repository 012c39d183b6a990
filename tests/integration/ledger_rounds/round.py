"""One random round: a world in trouble, then a calm one in which everything must come to its end."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from .actors import Attempt, Producers, Sweepers, Workers
from .checks import check, check_answers, check_dead, check_requests
from .heralds import Erasers, Heralds
from .model import Violation
from .world import PARTITION, World

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from genqueue.ledger import Outcome
    from genqueue.scripts import Script

    from .link import Link

#: How attempts in trouble end, and how often.
OUTCOMES: dict[Outcome, int] = {"succeeded": 6, "failed": 2, "retry": 2, "interrupted": 2, "cancelled": 1}
#: Steps in trouble.
STEPS = 140
#: Steps of 2 s within which the calm world must end every flight: a lease, its grace and a second run, but far from
#: the deadline, so that no flight ends by having been forgotten.
CALM_STEPS = 40
#: Longest time (ms) without a sweep and without the steady readers; below the shortest retention.
UNSEEN_MS = 30_000


class Round:
    """A seed's round; `run` raises Violation."""

    def __init__(self, link: Link, prefix: str, seed: int, seen: Counter[str], scripts: Mapping[str, Script]) -> None:
        self._world = World(link, prefix, seed, seen, scripts)
        self._producers = Producers(self._world)
        self._workers = Workers(self._world)
        self._sweepers = Sweepers(self._world)
        self._heralds = Heralds(self._world)
        self._erasers = Erasers(self._world, self._producers)
        self._unseen_ms = 0
        steps: tuple[tuple[int, Callable[[], None]], ...] = (
            (16, self._producers.submit),
            (18, self._pop),
            (18, lambda: self._with_attempt(self._workers.write)),
            (7, lambda: self._with_attempt(self._workers.renew)),
            (7, lambda: self._with_attempt(self._settle)),
            (4, lambda: self._with_attempt(self._workers.crash)),
            (2, self._producers.cancel),
            (2, lambda: self._producers.expire(self._let_pass)),
            (2, self._producers.replay),
            (1, self._press),
            (8, self._sweepers.sweep),
            (6, self._world.replay),
            (2, self._world.broker.bring_double),
            (10, self._wait),
            (1, self._wait_long),
            (4, self._look),
            (3, self._heralds.collect),
            (4, self._heralds.deliver),
            (1, self._erasers.purge),
        )
        self._actions = [action for _, action in steps]
        self._weights = list(accumulate(weight for weight, _ in steps))

    def run(self) -> None:
        """Run the round in an empty database and leave it empty."""
        world = self._world
        world.link.command("FLUSHDB")
        for action in world.dice.choices(self._actions, cum_weights=self._weights, k=STEPS):
            action()
            self._workers.hear()
        self._calm_down()
        check(world)

    def _calm_down(self) -> None:
        world = self._world
        world.calm = True
        world.press(0)
        unfinished = (f"{world.keys.slot(PARTITION)}ledger", world.keys.outbox(PARTITION))
        for _ in range(CALM_STEPS):
            self._sweepers.sweep()
            while self._workers.pop():
                pass
            for attempt in list(self._workers.attempts):
                self._finish(attempt)
            self._workers.hear()
            self._heralds.tell_all()
            if not world.link.command("EXISTS", *unfinished):
                return
            self._let_pass(2000)
        left = world.link.commands([("ZRANGE", key, 0, -1) for key in unfinished])
        raise Violation(f"never ended, never told: {left}")

    def _finish(self, attempt: Attempt) -> None:
        self._workers.write(attempt)
        if attempt in self._workers.attempts:
            self._workers.settle(attempt, "succeeded")

    def _with_attempt(self, action: Callable[[Attempt], None]) -> None:
        if self._workers.attempts:
            action(self._world.dice.choice(self._workers.attempts))

    def _pop(self) -> None:
        self._workers.pop()

    def _settle(self, attempt: Attempt) -> None:
        (outcome,) = self._world.dice.choices(list(OUTCOMES), weights=list(OUTCOMES.values()))
        self._workers.settle(attempt, outcome)

    def _press(self) -> None:
        self._world.press(self._world.dice.choice([0, 0, 1, 2, 3]))

    def _wait(self) -> None:
        self._let_pass(self._world.dice.choice([5, 50, 300, 1200, 2000, 4500, 16_000]))

    def _wait_long(self) -> None:
        """Let minutes pass in which only a sweep comes by, and the steady readers, before anything can expire."""
        world = self._world
        if not world.chance(0.3):
            return
        for _ in range(world.dice.choice([1, 10, 30])):
            self._let_pass(UNSEEN_MS)

    def _let_pass(self, milliseconds: int) -> None:
        world = self._world
        world.let_pass(milliseconds)
        self._unseen_ms += milliseconds
        if self._unseen_ms >= UNSEEN_MS:
            self._unseen_ms = 0
            self._sweepers.sweep()
            world.readers.read(world.readers.steady, dict.fromkeys(world.model.flight_of.values()))

    def _look(self) -> None:
        world = self._world
        flights = dict.fromkeys(world.model.flight_of.values())
        world.readers.read(world.readers.lazy, [flight for flight in flights if world.chance(0.5)])
        world.readers.read(world.readers.listening, [flight for flight in flights if world.chance(0.1)])
        check_requests(world)
        check_answers(world)
        check_dead(world)
