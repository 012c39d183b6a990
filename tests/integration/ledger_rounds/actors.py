"""Who acts in a round: producers, workers, sweepers; each may crash between any two steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genqueue.lanes import LANES, QUEUES
from genqueue.ledger import Claim, Claimed, Policy, Publication, Settlement, Submission, Sweep

from .world import LEASES

if TYPE_CHECKING:
    from genqueue.ledger import Entry, Outcome

    from .world import World

#: Jobs of a round.
MAX_JOBS = 9
#: Who is to be told, of those jobs that tell.
WHOM = '{"url":"https://example.com"}'
#: Over what a ring carries (bytes).
LONG = 5000


class Producers:
    """Submit jobs and cancel some of them.

    Attributes:
        jobs: ids of those that are known to be accepted.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: list[str] = []
        keep_ms = world.dice.choice([60_000, 3_600_000])
        self._policy = Policy(
            max_tries=world.dice.choice([1, 2, 4]),
            max_losses=world.dice.choice([2, 3]),
            stream_ttl_ms=keep_ms,
            keep_ms=keep_ms,
            cache_ttl_ms=3_600_000,
            dead_ttl_ms=world.dice.choice([0, 600_000]),
        )

    def submit(self) -> None:
        """Submit a job, unless there are enough, and publish what is to be published."""
        world = self._world
        if len(self.jobs) == MAX_JOBS:
            return
        job = self._make()
        reply = world.submit(job, delayed=world.chance(0.08))
        if reply is None or world.chance(0.1):
            return  # cut before it arrived, or crashed behind it
        if reply.status != "late":
            self.jobs.append(job.job)
        if reply.queue and reply.stamp:
            world.broker.publish(Publication(reply.flight, reply.queue, reply.stamp))

    def cancel(self) -> None:
        """Cancel any job, finished or not."""
        if self.jobs:
            self._world.leave(self._world.dice.choice(self.jobs))

    def _make(self) -> Submission:
        dice = self._world.dice
        return Submission(
            job=self._world.new_id(),
            flight=self._world.new_id(),
            fingerprint=dice.choice(["A", "A", "B", ""]),
            lane=dice.choice(LANES),
            deadline_ms=self._world.now + dice.choice([3000, 60_000, 600_000, 600_000]),
            tenant="tenant",
            mark=f"mark{dice.getrandbits(32)}",
            cache=dice.choice(["use", "use", "refresh", "refresh", "off"]),
            request="{}",
            policy=self._policy,
            store=dice.choice(["request", "request", "request", "none"]),
            on_done=dice.choice(["", WHOM]),
        )


@dataclass
class Attempt:
    """One attempt as its worker sees it; `sent` counts entries known to be in the stream."""

    flight: str
    token: str
    entries: list[Entry] = field(default_factory=list)
    sent: int = 0

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(str(entry["text"]) for entry in self.entries if entry["type"] == "delta")


class Workers:
    """Claim, write, renew, settle, crash."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.attempts: list[Attempt] = []

    def pop(self) -> bool:
        """Take a message and claim its flight; returns whether there was a message."""
        world = self._world
        message = world.broker.pop()
        if message is None:
            return False
        if world.chance(0.12):
            world.seen["crash before claim"] += 1
            return True
        token = f"{world.dice.getrandbits(64):016x}"
        wish = Claim(message.flight, token, message.stamp, world.keys.inbox("worker"), LEASES)
        granted = isinstance(world.claim(wish), Claimed)
        if granted and not world.chance(0.08):
            self.attempts.append(Attempt(message.flight, token))
        return True

    def write(self, attempt: Attempt) -> None:
        """Generate a few entries and write what is not written yet."""
        world = self._world
        self._generate(attempt)
        first = attempt.sent + 1
        if first < len(attempt.entries) and world.chance(0.1):
            first += 1  # an earlier write is still under way
        reply = world.append(attempt.flight, attempt.token, first, attempt.entries[first - 1 :])
        if reply.status == "gap":
            first = reply.written + 1
            reply = world.append(attempt.flight, attempt.token, first, attempt.entries[first - 1 :])
        if reply.status != "ok":
            self.attempts.remove(attempt)
        elif not world.chance(0.15):  # else the reply is lost, and the same is sent again
            attempt.sent = len(attempt.entries)

    def renew(self, attempt: Attempt) -> None:
        """Renew the lease, as long as a heartbeat would; an attempt that is refused stops."""
        if self._world.renew(attempt.flight, attempt.token, LEASES.high) is None:
            self.attempts.remove(attempt)

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """End an attempt with its last entries and publish what is to be published."""
        world = self._world
        if not attempt.entries:
            self._generate(attempt)
        first = attempt.sent + 1
        if first < len(attempt.entries) and world.chance(0.1):
            first += 1
        reply = world.settle(self._settlement(attempt, outcome, first))
        if reply.status == "gap" and reply.written is not None:
            reply = world.settle(self._settlement(attempt, outcome, reply.written + 1))
        self.attempts.remove(attempt)
        if reply.queue and reply.stamp and not world.chance(0.1):
            message = Publication(attempt.flight, reply.queue, reply.stamp)
            world.broker.publish(message, reliable=world.calm)

    def crash(self, attempt: Attempt) -> None:
        """Lose an attempt without a word."""
        self.attempts.remove(attempt)

    def hear(self) -> None:
        """Stop what was called off."""
        self.attempts = [attempt for attempt in self.attempts if attempt.token not in self._world.called_off]

    def _generate(self, attempt: Attempt) -> None:
        dice, entries = self._world.dice, attempt.entries
        if not entries:
            entries.append({"type": "started", "route": attempt.token, "model": "model"})
        for _ in range(dice.randint(0, 3)):
            kind = dice.choice(["delta", "delta", "delta", "thought"])
            padding = "." * LONG if dice.random() < 0.02 else ""
            entries.append({"type": kind, "text": f"{attempt.token}:{len(entries) + 1}{padding} "})

    def _settlement(self, attempt: Attempt, outcome: Outcome, first: int) -> Settlement:
        return Settlement(
            flight=attempt.flight,
            token=attempt.token,
            outcome=outcome,
            first=first,
            entries=attempt.entries[first - 1 :],
            delay_ms=2000,
            result="{}",
            replay=[{"type": "delta", "text": attempt.text}],
            detail={"text": attempt.text} if outcome == "succeeded" else {"code": "UNAVAILABLE", "retryable": "1"},
        )


class Sweepers:
    """Look after the partition and publish what it asks for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def sweep(self) -> None:
        """Sweep once; may crash before anything is published."""
        world = self._world
        look = Sweep(
            limit=50,
            slack_ms=1500,
            lease_grace_ms=15_000,
            min_interval_ms=250,
            queues=world.broker.readings(QUEUES),
        )
        publications = world.sweep(look)
        if world.chance(0.12):
            return
        for publication in publications:
            world.broker.publish(publication, reliable=world.calm)
