"""The ledger's calls with the arguments a test does not care about filled in, on a clock of the test's own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genqueue import ledger
from genqueue.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.ledger import Entry, QueueReading
    from genqueue.scripts import Call

    from .ledger_rounds.link import Link

#: Returns all that a key holds, as one text.
_DUMP = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then return redis.call('GET', KEYS[1]) end
if kind == 'hash' then return cjson.encode(redis.call('HGETALL', KEYS[1])) end
if kind == 'zset' then return cjson.encode(redis.call('ZRANGE', KEYS[1], 0, -1)) end
return cjson.encode(redis.call('XRANGE', KEYS[1], '-', '+'))
"""

PARTITION = 3
POLICY = ledger.Policy(max_tries=3, max_losses=2, stream_ttl_ms=20_000, keep_ms=50_000, cache_ttl_ms=30_000)
LEASES = ledger.Leases(high=4000, normal=15_000, low=15_000)
TOKEN = "token-1"


class Desk:
    """One partition, one clock.

    Attributes:
        now: the clock (ms); moves only when a test moves it.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self.link = link
        self.keys = Keys(prefix)
        self.slot = self.keys.slot(PARTITION)
        self.inbox = self.keys.inbox("worker")
        self.now = 1_000_000
        self.calls: list[Call] = []

    def run(self, call: Call) -> Any:
        """Return the raw reply and remember the call, so that a test can replay it."""
        self.calls.append(call)
        return self.link.run(call)

    def new_id(self) -> str:
        """Return an id of the partition."""
        return self.keys.new_id(PARTITION)

    def submission(self, **fields: Any) -> ledger.Submission:
        """Return a submission of the question "f" on the normal lane, with the fields given."""
        job = ledger.Submission(
            job=self.new_id(),
            flight=self.new_id(),
            fingerprint="f",
            lane="normal",
            deadline_ms=self.now + 60_000,
            tenant="acme",
            mark="mark",
            cache="use",
            request='{"v":1}',
            policy=POLICY,
        )
        return replace(job, **fields)

    def submit(self, job: ledger.Submission | None = None, **fields: Any) -> ledger.Submitted:
        """Submit a job."""
        job = job or self.submission(**fields)
        return ledger.parse_submit(self.run(ledger.submit(self.keys, job, self.now)))

    def claim(
        self, flight: str, stamp: int | None, token: str = TOKEN, *, alone: bool = False
    ) -> ledger.Claimed | ledger.Refusal:
        """Claim a flight."""
        wish = ledger.Claim(flight, token, stamp or 0, self.inbox, LEASES, alone)
        return ledger.parse_claim(self.run(ledger.claim(self.keys, wish, self.now)))

    def running(self, job: ledger.Submission | None = None, *, token: str = TOKEN, **fields: Any) -> str:
        """Return a flight that was submitted and claimed."""
        reply = self.submit(job, **fields)
        assert isinstance(self.claim(reply.flight, reply.stamp, token), ledger.Claimed)
        return reply.flight

    def append(self, flight: str, first: int, *entries: Entry, token: str = TOKEN) -> ledger.Appended:
        """Write entries."""
        return ledger.parse_append(self.run(ledger.append(self.keys, flight, token, first, entries)))

    def renew(self, flight: str, lease_ms: int = 15_000, token: str = TOKEN) -> str | None:
        """Renew a lease."""
        return ledger.parse_renew(self.run(ledger.renew(self.keys, flight, token, lease_ms, self.now)))

    def settle(
        self, flight: str, outcome: ledger.Outcome = "succeeded", token: str = TOKEN, **fields: Any
    ) -> ledger.Settled:
        """End an attempt."""
        settlement = ledger.Settlement(flight, token, outcome, **fields)
        return ledger.parse_settle(self.run(ledger.settle(self.keys, settlement, self.now)))

    def leave(self, job: str, reason: ledger.Reason = "cancelled") -> ledger.Departed:
        """Take a job off its flight."""
        return ledger.parse_leave(self.run(ledger.leave(self.keys, job, reason, self.now)))

    def revoke(self, flight: str) -> ledger.Departed:
        """Cancel every job of a flight."""
        return ledger.parse_revoke(self.run(ledger.revoke(self.keys, flight, self.now)))

    def drop(self, flight: str) -> str:
        """Let go of a dead letter."""
        return ledger.parse_drop(self.run(ledger.drop(self.keys, flight)))

    def due(self) -> list[str]:
        """Return the jobs whose end is to be told."""
        return [job.decode() for job in self.link.command(*ledger.due(self.keys, PARTITION, self.now, 100))]

    def collect(self, *jobs: str, token: str = "taken-1", longest: int = 1000) -> list[ledger.Completion]:
        """Take completions for 30 s; those that are due when none is named."""
        taking = ledger.Taking(token, 30_000, longest)
        call = ledger.collect(self.keys, PARTITION, jobs or self.due(), taking, self.now)
        return ledger.parse_collect(taking, self.run(call))

    def delivered(self, taken: ledger.Completion, delivery: ledger.Delivery, delay_ms: int = 0) -> bool:
        """Say what became of a completion."""
        call = ledger.delivered(self.keys, taken, delivery, delay_ms, self.now)
        return ledger.parse_delivered(self.run(call))

    def purge(self, job: str) -> ledger.Erased:
        """Erase a job, and its key behind it."""
        erased = ledger.parse_purge(self.run(ledger.purge(self.keys, job, self.now)))
        self.link.command("DEL", self.keys.job(job))
        return erased

    def finished(self) -> list[dict[str, str]]:
        """Return the entries of the partition's finished stream."""
        return [_mapping(values) for _, values in self.link.command("XRANGE", f"{self.slot}finished", "-", "+")]

    def traces(self, *names: str) -> list[str]:
        """Return every key that is named after one of the names, or holds one."""
        found = []
        for key in self.link.command("KEYS", f"{self.keys.prefix}:*"):
            held = self.link.command("EVAL", _DUMP, 1, key)
            found += [key.decode() for name in names if name in key.decode() or name.encode() in held]
        return found

    def sweep(self, *queues: QueueReading, limit: int = 10) -> list[ledger.Publication]:
        """Sweep the partition, and return what must be published."""
        return ledger.publications(self.look(*queues, limit=limit))

    def look(self, *queues: QueueReading, limit: int = 10, memory_high_water: int = 85) -> list[ledger.Swept]:
        """Sweep the partition, and return all that was done."""
        look = ledger.Sweep(limit, 1500, 4000, 15_000, 250, queues, memory_high_water)
        return ledger.parse_sweep(self.run(ledger.sweep(self.keys, PARTITION, look, self.now)))

    def sweep_at(self, moment: int, *queues: QueueReading) -> list[ledger.Publication]:
        """Sweep at a moment, as one of many sweeps a second: no outage lies before it."""
        self.link.command("SET", f"{self.slot}swept", moment - 1000, "PX", 60_000)
        self.now = moment
        return self.sweep(*queues)

    def lose_all(self, flight: str) -> list[ledger.Swept]:
        """Lose the worker of a running flight, and each one that comes after it; returns what the last sweep found."""
        while True:
            self.now += 15_000
            self.link.command("SET", f"{self.slot}swept", self.now - 1000, "PX", 60_000)
            found = self.look()
            (publication,) = ledger.publications(found) or [None]
            if publication is None:
                return found
            token = f"token-{publication.stamp}"
            if self.claim(flight, publication.stamp, token) == ledger.Refusal("suspect"):
                self.claim(flight, publication.stamp, token, alone=True)

    def history(self, flight: str) -> list[dict[str, Any]]:
        """Return how the attempts of a flight ended."""
        found: list[dict[str, Any]] = json.loads(self.fields(flight).get("history", "[]"))
        return found

    def dead(self) -> dict[str, int]:
        """Return the dead letters, each with the moment until which it is kept (ms)."""
        found = self.link.command("ZRANGE", f"{self.slot}dead", 0, -1, "WITHSCORES")
        return {flight.decode(): int(moment) for flight, moment in found}

    def entries(self, flight: str) -> list[dict[str, str]]:
        """Return a stream's entries."""
        found = self.link.command("XRANGE", self.keys.events(flight), "-", "+")
        return [_mapping(values) for _, values in found]

    def types(self, flight: str) -> list[str]:
        """Return the types of a stream's entries."""
        return [entry["type"] for entry in self.entries(flight)]

    def fields(self, flight: str) -> dict[str, str]:
        """Return a flight's hash."""
        found: dict[bytes, bytes] = self.link.command("HGETALL", self.keys.flight(flight))
        return {name.decode(): value.decode() for name, value in found.items()}

    def heard(self, channel: str) -> list[str]:
        """Return what was published on a channel since this was last asked; other channels' messages are forgotten."""
        return [payload.decode() for heard, payload in self.link.take_heard() if heard.decode() == channel]

    def times_to_live(self) -> dict[str, int]:
        """Return the time to live of every key of the partition (ms)."""
        names = [name.decode() for name in self.link.command("KEYS", f"{self.keys.prefix}:*")]
        return dict(zip(names, self.link.commands([("PTTL", name) for name in names]), strict=True))


def _mapping(values: Sequence[bytes]) -> dict[str, str]:
    texts = [value.decode() for value in values]
    return dict(zip(texts[::2], texts[1::2], strict=True))
