"""Who acts in a round: producers, workers, sweepers; each may crash between any two steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from genqueue.lanes import LANES, QUEUES
from genqueue.ledger import Claim, Claimed, Policy, Publication, Refusal, Settlement, Submission, Sweep

from .world import LEASES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genqueue.ledger import Entry, OnInterrupt, Outcome

    from .world import World

#: Jobs of a round.
MAX_JOBS = 9
#: Who is to be told, of those jobs that tell.
WHOM = '{"url":"https://example.com"}'
#: Over what a ring carries (bytes).
LONG = 5000
#: How long somebody waits who then finds that the deadline has passed (ms).
SOON_MS = 3000


class Producers:
    """Submit jobs and cancel some of them.

    Attributes:
        jobs: ids of those that are known to be accepted.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: list[str] = []
        keep_ms = world.dice.choice([60_000, 3_600_000])
        # mostly of one mind: members that differ have the attempts begin anew
        self._wishes: Sequence[OnInterrupt]
        self._wishes = world.dice.choice([["restart"], ["continue"], ["fail"], ["restart", "continue", "fail"]])
        self._policy = Policy(
            max_tries=world.dice.choice([1, 2, 4]),
            max_losses=world.dice.choice([1, 2]),
            stream_ttl_ms=keep_ms,
            keep_ms=keep_ms,
            cache_ttl_ms=3_600_000,
            dead_ttl_ms=world.dice.choice([0, 600_000]),
        )

    def submit(self, replayed_from: str = "") -> None:
        """Submit a job, unless there are enough, and publish what is to be published."""
        world = self._world
        if len(self.jobs) == MAX_JOBS:
            return
        job = replace(self._make(), replayed_from=replayed_from)
        reply = world.submit(job, delayed=world.chance(0.08))
        if reply is None or world.chance(0.1):
            return  # cut before it arrived, or crashed behind it
        if reply.status not in {"late", "full"}:
            self.jobs.append(job.job)
        if reply.queue and reply.stamp:
            world.broker.publish(Publication(reply.flight, reply.queue, reply.stamp))

    def cancel(self) -> None:
        """Cancel any job, finished or not; sometimes everybody's who shares its flight."""
        world = self._world
        if not self.jobs:
            return
        job = world.dice.choice(self.jobs)
        if world.chance(0.3):
            world.revoke(world.model.flight_of[job])
        else:
            world.leave(job, "cancelled")

    def expire(self, let_pass: Callable[[int], None]) -> None:
        """End a job at its deadline, as somebody does who waits for it; or try to, too early."""
        world = self._world
        if not self.jobs:
            return
        job = world.dice.choice(self.jobs)
        soon = [job for job in self.jobs if 0 < world.model.jobs[job].deadline_ms - world.now <= SOON_MS]
        if soon and world.chance(0.8):
            job = soon[0]
            let_pass(world.model.jobs[job].deadline_ms - world.now)
        world.leave(job, "expired")

    def replay(self) -> None:
        """Submit the question of a dead letter again, as a job of its own; or let go of it, or have it erased."""
        world = self._world
        dead = world.dead()
        if not dead:
            return
        flight = world.dice.choice(dead)
        jobs = [job for job in self.jobs if world.model.flight_of[job] == flight]
        if world.chance(0.4):
            world.drop(flight)
        elif jobs and world.chance(0.3):
            world.purge(jobs[0])
        elif jobs:
            self.submit(replayed_from=jobs[0])

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
            on_interrupt=dice.choice(self._wishes),
        )


@dataclass
class Attempt:
    """One attempt as its worker sees it; `sent` counts entries known to be in the stream.

    Attributes:
        before: the text it goes on from.
    """

    flight: str
    token: str
    before: str = ""
    entries: list[Entry] = field(default_factory=list)
    sent: int = 0

    @property
    def text(self) -> str:
        """The answer so far."""
        return self.before + "".join(str(entry["text"]) for entry in self.entries if entry["type"] == "delta")


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
        wish = Claim(message.flight, token, message.stamp, world.keys.inbox("worker"), LEASES, world.chance(0.05))
        claimed = world.claim(wish)
        if claimed == Refusal("suspect") and not world.chance(0.2):
            claimed = world.claim(replace(wish, alone=True))
        if isinstance(claimed, Claimed) and not world.chance(0.08):
            before = self._shown(message.flight) if claimed.resumed else ""
            self.attempts.append(Attempt(message.flight, token, before))
        return True

    def _shown(self, flight: str) -> str:
        """Return the text that readers see when an attempt goes on from it."""
        text = ""
        for _, values in self._world.link.command("XRANGE", self._world.keys.events(flight), "-", "+"):
            fields = dict(zip(values[::2], values[1::2], strict=True))
            if fields[b"type"] == b"restarted":
                text = ""
            elif fields[b"type"] == b"delta":
                text += fields[b"text"].decode()
        return text

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
            delay_ms=self._delay_ms(attempt, outcome),
            result="{}",
            replay=[{"type": "delta", "text": attempt.text}],
            detail=self._detail(attempt, outcome),
        )

    def _delay_ms(self, attempt: Attempt, outcome: Outcome) -> int:
        delay_ms = self._world.dice.choice([2000, 2000, 30_000])
        put_off = outcome != "interrupted" or int(attempt.token[0], 16) < 4
        return delay_ms if put_off else 0

    def _detail(self, attempt: Attempt, outcome: Outcome) -> dict[str, str]:
        if outcome == "succeeded":
            return {"text": attempt.text}
        if outcome == "failed" and int(attempt.token[0], 16) < 8:
            return {"code": "INVALID_ARGUMENT", "retryable": "0"}
        return {"code": "UNAVAILABLE", "message": "busy", "retryable": "1"}


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
            grace_high_ms=4000,
            grace_other_ms=15_000,
            min_interval_ms=250,
            queues=world.broker.readings(QUEUES),
        )
        publications = world.sweep(look)
        if world.chance(0.12):
            return
        for publication in publications:
            world.broker.publish(publication, reliable=world.calm)
