"""Who tells the ends of jobs in a round, and who has jobs erased; each may crash between any two steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genqueue.ledger import Taking

if TYPE_CHECKING:
    from genqueue.ledger import Completion, Delivery

    from .actors import Producers
    from .world import World

#: How long a completion is taken for (ms); longer than the delay of a next try, so that the two are told apart.
LEASE_MS = 10_000
DELAY_MS = 2000


@dataclass
class Heralds:
    """Take completions, tell them, and say what became of that."""

    world: World
    taken: list[Completion] = field(default_factory=list)

    def collect(self) -> None:
        """Look what is due, and take it unless another did in between."""
        world = self.world
        jobs = world.due()
        if jobs:
            taking = Taking(f"{world.dice.getrandbits(64):016x}", LEASE_MS, 1000)
            self.taken += world.collect(jobs, taking)

    def deliver(self) -> None:
        """Tell one of those taken, be it late; the receiver may refuse, and the teller crash before it says so."""
        world = self.world
        if not self.taken:
            return
        completion = self.taken.pop(world.dice.randrange(len(self.taken)))
        if world.chance(0.1):
            return
        delivery: Delivery = "failed" if world.chance(0.4) else "delivered"
        if delivery == "delivered":
            world.model.told(completion)
        if not world.chance(0.15):
            world.report(completion, delivery, DELAY_MS)

    def tell_all(self) -> None:
        """Tell everything that is due."""
        self.collect()
        while self.taken:
            self.deliver()


@dataclass
class Erasers:
    """Have jobs erased, in whatever state they are."""

    world: World
    producers: Producers

    def purge(self) -> None:
        """Erase any job, or one that paid for an answer kept for equal questions."""
        world, jobs = self.world, self.producers.jobs
        paid = {world.kept_answer(question) for question in ("A", "B")}
        payers = [job for job in jobs if world.model.flight_of[job] in paid]
        if jobs:
            world.purge(world.dice.choice(payers if payers and world.chance(0.5) else jobs))
