"""One round's world: its clock, its dice, and every call it makes of the ledger, some of them twice."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from genqueue import ledger
from genqueue.events import TERMINAL
from genqueue.keys import Keys

from .broker import Broker
from .model import Model, Violation
from .readers import Readers

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from genqueue.ledger import Entry
    from genqueue.scripts import Call, Script

    from .link import Link

#: The round's clock at its start (ms).
START_MS = 1_000_000
#: The only partition of a round.
PARTITION = 0
_TERMINAL = {kind.encode() for kind in TERMINAL}
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


#: Returns the keys that have an id of ARGV in their name, or in what they hold. Ids behind ARGV[1] many are of flights:
#: jobs that had left one before may go on naming it.
_TRACES = """
local read = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key)
    -- a replayed job goes on naming the one it repeats
    return (string.gsub(cjson.encode(redis.call('HGETALL', key)), '"replayed_from","[^"]*"', ''))
  end,
  zset = function(key) return cjson.encode(redis.call('ZRANGE', key, 0, -1)) end,
  stream = function(key) return cjson.encode(redis.call('XRANGE', key, '-', '+')) end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local held = key .. read[redis.call('TYPE', key).ok](key)
  local names_flights = string.find(key, ':job:', 1, true) or string.find(key, ':finished', 1, true)
  for index = 2, names_flights and ARGV[1] + 1 or #ARGV do
    if string.find(held, ARGV[index], 1, true) then found[#found + 1] = key end
  end
end
return found
"""


@dataclass(frozen=True)
class Command:
    """A call of the ledger that can be made at any time, and again.

    Attributes:
        job: whose it is, when it brings that job about.
    """

    name: str
    build: Callable[[], Call]
    observe: Callable[[Any], Any]
    job: str = ""


class World:
    """What the actors of a round share.

    Attributes:
        now: the round's clock (ms).
        calm: whether connections hold; else some calls are made twice, the first reply being lost.
        called_off: tokens whose holders heard that they were called off.
        pressure: how short the server's memory is, 0 to 3.
        log: every call made, to be made again at any later time.
    """

    def __init__(self, link: Link, prefix: str, seed: int, seen: Counter[str], scripts: Mapping[str, Script]) -> None:
        self.link, self.seen = link, seen
        self.keys = Keys(prefix, partitions=1)
        self.dice = random.Random(seed)
        self.now = START_MS
        self.calm = False
        self.called_off: set[str] = set()
        self.pressure = 0
        self.log: list[Command] = []
        self.model = Model(seen)
        self.broker = Broker(self.dice, seen)
        self.readers = Readers(link, self.keys, seen)
        self._scripts = scripts

    def new_id(self) -> str:
        """Return an id of a job or flight, the same in every run of the seed."""
        return f"{PARTITION}-{self.dice.getrandbits(80):020x}"

    def chance(self, probability: float) -> bool:
        """Throw the dice; never true once the world is calm."""
        return not self.calm and self.dice.random() < probability

    def submit(self, job: ledger.Submission, *, delayed: bool = False) -> ledger.Submitted | None:
        """Submit a job, now or (then returning None) whenever the log is replayed."""

        def observe(raw: Any) -> ledger.Submitted:
            reply = ledger.parse_submit(raw)
            self.model.submitted(job, reply, self.now, self.pressure)
            return reply

        command = Command("submit", lambda: ledger.submit(self.keys, job, self.now), observe, job.job)
        if delayed:
            self.log.append(command)
            return None
        reply: ledger.Submitted = self._make(command)
        return reply

    def claim(self, wish: ledger.Claim) -> ledger.Claimed | ledger.Refusal:
        """Claim a flight."""

        def observe(raw: Any) -> ledger.Claimed | ledger.Refusal:
            reply = ledger.parse_claim(raw)
            self.model.claimed(wish, reply, self.now)
            return reply

        reply: ledger.Claimed | ledger.Refusal
        reply = self._make(Command("claim", lambda: ledger.claim(self.keys, wish, self.now), observe))
        return reply

    def append(self, flight: str, token: str, first: int, entries: Sequence[Entry]) -> ledger.Appended:
        """Write entries."""

        def observe(raw: Any) -> ledger.Appended:
            reply = ledger.parse_append(raw)
            self.model.appended(flight, token, reply, entries)
            return reply

        reply: ledger.Appended
        reply = self._make(Command("append", lambda: ledger.append(self.keys, flight, token, first, entries), observe))
        return reply

    def renew(self, flight: str, token: str, lease_ms: int) -> str | None:
        """Renew a lease; returns the flight's lane, None when the token is void."""

        def observe(raw: Any) -> str | None:
            lane = ledger.parse_renew(raw)
            self.model.renewed(flight, token, self.now + lease_ms, lane)
            return lane

        lane: str | None
        lane = self._make(Command("renew", lambda: ledger.renew(self.keys, flight, token, lease_ms, self.now), observe))
        return lane

    def settle(self, settlement: ledger.Settlement) -> ledger.Settled:
        """End an attempt."""

        def observe(raw: Any) -> ledger.Settled:
            reply = ledger.parse_settle(raw)
            self.model.settled(settlement, reply, self.now, self.pressure)
            return reply

        reply: ledger.Settled
        reply = self._make(Command("settle", lambda: ledger.settle(self.keys, settlement, self.now), observe))
        return reply

    def leave(self, job: str, reason: ledger.Reason) -> None:
        """Cancel a job, or end it because its deadline has passed."""

        def observe(raw: Any) -> None:
            self.model.departed(job, reason, ledger.parse_leave(raw), self.now)

        self._make(Command("leave", lambda: ledger.leave(self.keys, job, reason, self.now), observe))

    def revoke(self, flight: str) -> None:
        """Cancel every job of a flight."""

        def observe(raw: Any) -> None:
            self.model.revoked(flight, ledger.parse_revoke(raw))

        self._make(Command("revoke", lambda: ledger.revoke(self.keys, flight, self.now), observe))

    def drop(self, flight: str) -> None:
        """Let go of a dead letter."""

        def observe(raw: Any) -> None:
            self.model.drop(flight, ledger.parse_drop(raw))

        self._make(Command("drop", lambda: ledger.drop(self.keys, flight), observe))

    def dead(self) -> list[str]:
        """Return the flights that are dead letters."""
        found = self.link.command("ZRANGEBYSCORE", f"{self.keys.slot(PARTITION)}dead", f"({self.now}", "+inf")
        return [flight.decode() for flight in found]

    def kept_answer(self, question: str) -> str | None:
        """Return the flight whose answer is kept for a question."""
        flight = self.link.command("HGET", f"{self.keys.slot(PARTITION)}cache:{question}", "flight")
        return flight.decode() if flight else None

    def press(self, level: int) -> None:
        """Make the server's memory look short from now on."""
        self.pressure = level
        self.link.command(
            "SET", f"{self.keys.slot(PARTITION)}pressure", f"{level} {(0, 87, 92, 97)[level]}", "EX", 99_999
        )

    def sweep(self, look: ledger.Sweep) -> list[ledger.Publication]:
        """Sweep the partition, once; returns what must be published."""

        def observe(raw: Any) -> list[ledger.Publication]:
            found = ledger.parse_sweep(raw)
            self.model.swept(found)
            return ledger.publications(found)

        self.model.begin_sweep(look, self.now)
        publications: list[ledger.Publication]
        publications = self._call(Command("sweep", lambda: ledger.sweep(self.keys, PARTITION, look, self.now), observe))
        return publications

    def due(self) -> list[str]:
        """Return the jobs whose end is to be told."""
        found = self.link.command(*ledger.due(self.keys, PARTITION, self.now, 100))
        return [job.decode() for job in found]

    def collect(self, jobs: Sequence[str], taking: ledger.Taking) -> list[ledger.Completion]:
        """Take completions."""

        def observe(raw: Any) -> list[ledger.Completion]:
            taken = ledger.parse_collect(taking, raw)
            for completion in taken:
                self.model.taken(completion, self.now, taking.lease_ms)
            return taken

        def build() -> Call:
            return ledger.collect(self.keys, PARTITION, jobs, taking, self.now)

        taken: list[ledger.Completion] = self._make(Command("collect", build, observe))
        return taken

    def report(self, taken: ledger.Completion, delivery: ledger.Delivery, delay_ms: int) -> None:
        """Say what became of a completion."""

        def observe(raw: Any) -> None:
            self.model.reported(taken, delivery, noted=ledger.parse_delivered(raw))

        def build() -> Call:
            return ledger.delivered(self.keys, taken, delivery, delay_ms, self.now)

        self._make(Command("delivered", build, observe))

    def purge(self, job: str) -> None:
        """Erase a job; may crash before its key is deleted, and is then made again. Nobody submits it any more."""

        def observe(raw: Any) -> ledger.Erased:
            erased = ledger.parse_purge(raw)
            self.model.purged(job, erased)
            return erased

        self.log = [command for command in self.log if command.job != job]
        command = Command("purge", lambda: ledger.purge(self.keys, job, self.now), observe)
        reads_on = self._reads_on(job)
        if self._make(command) == "shared" and reads_on and self._reads_on(job):
            raise Violation(f"{job} was erased, and its reader was not told")
        if self.chance(0.2):
            self.seen["purge cut off"] += 1
            self._call(command)
        self.link.command("DEL", self.keys.job(job))
        self.look_for_traces()

    def _reads_on(self, job: str) -> bool:
        """Return whether a reader of the job still waits for its end; nobody waits for a stream that has expired."""
        flight, mark = self.model.flight_of[job], self.model.jobs[job].mark.encode()
        entries = self.link.command("XRANGE", self.keys.events(flight), "-", "+")
        return bool(entries) and not any(mark in fields or _TERMINAL & set(fields) for _, fields in entries)

    def look_for_traces(self) -> None:
        """Raise Violation when anything is left of what was erased."""
        jobs, flights = self.model.erased, self.model.erased_flights
        if jobs and (found := self.link.command("EVAL", _TRACES, 0, len(jobs), *jobs, *flights)):
            raise Violation(f"erased, and still there: {found} of {jobs} and {flights}")

    def replay(self) -> None:
        """Make one of the calls made before once more; nobody waits for the reply."""
        if self.log:
            self.seen["replayed"] += 1
            self._call(self.dice.choice(self.log))

    def let_pass(self, milliseconds: int) -> None:
        """Let time pass for the clock and the keys alike; raises Violation for a key that would live for ever."""
        self.now += milliseconds
        if eternal := self.link.command("EVAL", _AGE, 0, milliseconds):
            raise Violation(f"without time to live: {eternal}")

    def _make(self, command: Command) -> Any:
        self.log.append(command)
        reply = self._call(command)
        return self._call(command) if self.chance(0.13) else reply

    def _call(self, command: Command) -> Any:
        call = command.build()
        raw = self.link.run(replace(call, script=self._scripts.get(call.script.name, call.script)))
        self._hear(command.name)
        return command.observe(raw)

    def _hear(self, cause: str) -> None:
        for channel, payload in self.link.take_heard():
            kind, flight = channel.decode().rsplit(":", 2)[1:]
            if kind == "bell":
                self._ring(flight, payload)
            else:
                flight, token = payload.decode().split()
                self.model.called_off(cause, flight, token, self.now)
                if not self.chance(0.5):
                    self.called_off.add(token)

    def _ring(self, flight: str, payload: bytes) -> None:
        if self.chance(0.25):
            self.seen["ring dropped"] += 1
        else:
            self.readers.ring(flight, payload)
