"""Random flights, written by the ledger's own scripts: shared, left, lost, retried, handed back, answered again.

Each flight has a partition and a clock of its own, so that any number of them are under way at once and a sweep looks
after one alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genqueue import ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.ledger_rounds.link import Link

    from genqueue.keys import Keys
    from genqueue.ledger import Entry

POLICY = ledger.Policy(max_tries=3, max_losses=3, stream_ttl_ms=3_600_000, keep_ms=3_600_000, cache_ttl_ms=3_600_000)
LEASES = ledger.Leases(high=4000, normal=15_000, low=15_000)
#: Far ahead of the server's clock, by which readers would end what is over (ms since 1970).
START_MS = 4_000_000_000_000
DEADLINE_MS = 600_000
#: Longer than what a ring carries (bytes).
LONG = "Fluss \N{WATER WAVE} " * 500
TEXTS = (
    "Rhine",
    ", ",
    "Elbe\n",
    "",
    "\u2028",
    "\N{WATER WAVE}\N{COMBINING ACUTE ACCENT}",
    '"\\',
    "\x00\x1f",
    "河",
    "$4\r\n",
)
#: Fields of a flight that a claim and its writing change.
CLAIMED = ("state", "token", "inbox", "attempt", "written", "delta", "queue", "spent", "claimed", "lease")
CLAIMED += ("resumed", "alone")
PARTS = (
    {"about": "part", "json": '{"functionCall":{"name":"f","args":{"x":"\u2028"}}}'},
    {"about": "text", "json": '{"thoughtSignature":"c2ln"}'},
    {"about": "candidate", "json": '{"citationMetadata":{}}'},
)


@dataclass(frozen=True)
class Aboard:
    """One job whose events somebody may read."""

    job: str
    flight: str
    mark: str
    deadline_ms: int


@dataclass
class Flight:
    """One flight's life; all that happens follows from its seed.

    Attributes:
        aboard: its jobs, from the first on; also those that left, and one that was answered out of the cache.
    """

    link: Link
    keys: Keys
    number: int
    seed: int
    aboard: list[Aboard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        (self._on_interrupt,) = self._dice.choices(("restart", "continue", "fail"), (5, 5, 1))
        self._now = START_MS
        self._flight = ""
        self._stamp = 0
        self._token = ""
        self._entries: list[Entry] = []
        self._written = 0
        self._before: list[Any] = []
        self._present: list[Aboard] = []

    def life(self) -> Iterator[None]:
        """Live, a call at a time."""
        self._submit()
        yield
        while self._stamp:
            yield from self._maybe(0.15, self._submit)
            yield from self._maybe(0.1, self._leave)
            if self._stamp and self._dice.random() < 0.04:
                self._expire()
            if self._stamp:
                yield from self._attempt()
        if self._dice.random() < 0.3:
            self._submit()
            yield

    def _new_id(self) -> str:
        return f"{self.number}-{self._dice.getrandbits(80):020x}"

    def _maybe(self, probability: float, action: Callable[[], None]) -> Iterator[None]:
        if self._dice.random() < probability:
            action()
            yield

    def _submit(self) -> None:
        dice = self._dice
        wish = ledger.Submission(
            job=self._new_id(),
            flight=self._new_id(),
            fingerprint=f"{self.number:08x}",
            lane=dice.choice(("high", "normal", "normal", "low")),
            deadline_ms=self._now + DEADLINE_MS + dice.randrange(3) * 60_000,
            tenant="acme",
            mark=f"{dice.getrandbits(64):016x}",
            cache="use",
            request="{}",
            policy=POLICY,
            on_interrupt=self._on_interrupt if dice.random() < 0.95 else "restart",
        )
        reply = ledger.parse_submit(self.link.run(ledger.submit(self.keys, wish, self._now)))
        self._flight = self._flight or reply.flight
        job = Aboard(wish.job, reply.flight, wish.mark, wish.deadline_ms)
        self.aboard.append(job)
        if reply.status in {"new", "joined"} and reply.flight == self._flight:
            self._present.append(job)
            self._published(reply)
        else:
            self._finish_second(reply)

    def _finish_second(self, reply: ledger.Submitted) -> None:
        """End a flight that was started because the first had ended without an answer."""
        if reply.stamp is not None:
            self.link.run(ledger.leave(self.keys, self.aboard[-1].job, "cancelled"))

    def _published(self, reply: Any) -> None:
        if reply.queue is not None:
            self._stamp = reply.stamp
            self._token = ""  # a lift may have taken the flight from its holder

    def _leave(self) -> None:
        """Cancel one of the jobs, mostly one that others go on without."""
        if len(self._present) == 1 and self._dice.random() < 0.8:
            return
        job = self._present.pop(self._dice.randrange(len(self._present)))
        self.link.run(ledger.leave(self.keys, job.job, "cancelled"))
        if not self._present:
            self._stamp, self._token = 0, ""

    def _expire(self) -> None:
        """Let the first deadlines pass."""
        self._now += DEADLINE_MS + self._dice.randrange(4) * 60_000
        self._sweep()

    def _attempt(self) -> Iterator[None]:
        self._token = f"{self._dice.getrandbits(64):016x}"
        self._before = self.link.command("HMGET", self.keys.flight(self._flight), *CLAIMED)
        claimed = self._claim(alone=self._dice.random() < 0.5)
        if claimed == ledger.Refusal("suspect"):
            claimed = self._claim(alone=True)
        assert isinstance(claimed, ledger.Claimed), claimed
        started = {"type": "started", "route": "gemini", "model": "gemini-3", "run": self._token[:8]}
        self._entries, self._written = [started], 0
        token = self._token
        for _ in range(self._dice.randrange(7)):
            self._write()
            yield
            yield from self._maybe(0.08, self._submit)
            yield from self._maybe(0.08, self._leave)
            if self._token != token:
                return
            yield from self._maybe(0.08, self._forget)
            yield from self._maybe(0.04, self._forget_claim)
            if self._token != token:
                return
        self._end()
        yield

    def _claim(self, *, alone: bool) -> ledger.Claimed | ledger.Refusal:
        wish = ledger.Claim(self._flight, self._token, self._stamp, "inbox", LEASES, alone)
        return ledger.parse_claim(self.link.run(ledger.claim(self.keys, wish, self._now)))

    def _write(self) -> None:
        for _ in range(self._dice.randrange(4)):
            self._entries.append(self._piece())
        fresh = self._entries[self._written :]
        reply = ledger.parse_append(
            self.link.run(ledger.append(self.keys, self._flight, self._token, self._written + 1, fresh))
        )
        assert reply.status == "ok", reply
        self._written = reply.written

    def _piece(self) -> Entry:
        dice = self._dice
        match dice.randrange(20):
            case 0:
                return {"type": "delta", "text": LONG}
            case 1 | 2:
                return {"type": "thought", "text": dice.choice(TEXTS)}
            case 3 | 4:
                return {"type": "part", **dice.choice(PARTS)}
            case 5:
                return {"type": "weather", "sky": dice.choice(TEXTS)}
        return {"type": "delta", "text": dice.choice(TEXTS)}

    def _forget(self) -> None:
        """Come back as a server that has forgotten what it confirmed last: the worker writes that again."""
        self._written = self._dice.randrange(self._written + 1)
        self.link.command("HSET", self.keys.flight(self._flight), "written", self._written)

    def _forget_claim(self) -> None:
        """Come back as a server that has forgotten the claim too: the message is still there, and somebody takes it."""
        key = self.keys.flight(self._flight)
        self.link.command("HDEL", key, *CLAIMED)
        before = [text for pair in zip(CLAIMED, self._before, strict=True) if pair[1] is not None for text in pair]
        self.link.command("HSET", key, *before)
        self._token = ""

    def _end(self) -> None:
        """End the attempt in one of the ways there are."""
        (way,) = self._dice.choices(
            ("succeeded", "failed", "retry", "interrupted", "lost", "left", "expired"), (11, 2, 3, 2, 3, 1, 1)
        )
        if way == "lost":
            self._now += LEASES.normal + 1
            self._sweep()
        elif way == "expired":
            self._expire()
        elif way == "left":
            while self._present:
                self.link.run(ledger.leave(self.keys, self._present.pop().job, "cancelled"))
            self._stamp = 0
        else:
            self._settle(way)

    def _settle(self, outcome: Any) -> None:
        text = "".join(str(entry.get("text", "")) for entry in self._entries if entry["type"] == "delta")
        settlement = ledger.Settlement(
            self._flight,
            self._token,
            outcome,
            self._written + 1,
            self._entries[self._written :],
            delay_ms=2000,
            result="{}",
            replay=[{"type": "delta", "text": text}],
            detail={"finish_reason": "STOP", "source": "live"}
            if outcome == "succeeded"
            else {"code": "UNAVAILABLE", "message": "later", "retryable": "1"},
        )
        reply = ledger.parse_settle(self.link.run(ledger.settle(self.keys, settlement, self._now)))
        self._stamp = reply.stamp or 0
        if reply.status == "waiting":
            self._now += 2000
            self._sweep()

    def _sweep(self) -> None:
        """Look after the partition, as one of many sweeps: no outage lies before it."""
        self._now += 1000
        self.link.command("SET", f"{self.keys.slot(self.number)}swept", self._now - 1000, "PX", 60_000)
        look = ledger.Sweep(100, slack_ms=10**9, grace_high_ms=4000, grace_other_ms=15_000, min_interval_ms=250)
        self.link.run(ledger.sweep(self.keys, self.number, look, self._now))
        state, stamp = self.link.command("HMGET", self.keys.flight(self._flight), "state", "stamp")
        self._stamp, self._token = int(stamp) if state == b"queued" else 0, ""
        self._present = [job for job in self._present if job.deadline_ms > self._now]


def write(flights: list[Flight], dice: random.Random, *, at_once: int = 40) -> Iterator[Flight]:
    """Let flights live side by side, a call of one and a call of another; yields each when it is under way.

    At most `at_once` are under way at the same time.
    """
    waiting = iter(flights)
    lives: list[Iterator[None]] = []
    while True:
        while len(lives) < at_once and (flight := next(waiting, None)) is not None:
            life = flight.life()
            next(life)
            lives.append(life)
            yield flight
        if not lives:
            return
        chosen = dice.randrange(len(lives))
        if next(lives[chosen], lives) is lives:
            lives.pop(chosen)


def entries_of(link: Link, keys: Keys, flight: str) -> list[tuple[str, dict[str, str]]]:
    """Return a stream's entries."""
    found = link.command("XRANGE", keys.events(flight), "-", "+")
    return [(entry.decode(), _mapping(values)) for entry, values in found]


def _mapping(values: list[bytes]) -> dict[str, str]:
    texts = [value.decode() for value in values]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def cut_a_reader(link: Link, dice: random.Random) -> bool:
    """Break the connection of somebody who waits for entries or rings; returns whether there was one."""
    clients = [
        dict(pair.split("=", 1) for pair in line.split())
        for line in link.command("CLIENT", "LIST").decode().splitlines()
    ]
    waiting = [client["id"] for client in clients if client["cmd"] == "xread" or int(client["sub"])]
    if not waiting:
        return False
    return bool(link.command("CLIENT", "KILL", "ID", dice.choice(waiting)))
