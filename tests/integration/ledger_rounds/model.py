"""What must be true of every reply, kept apart from the scripts that must make it so."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genqueue.ledger import Claimed

if TYPE_CHECKING:
    from genqueue.ledger import (
        Appended,
        Claim,
        Completion,
        Delivery,
        Departed,
        Erased,
        Policy,
        Publication,
        Refusal,
        Settled,
        Settlement,
        Submission,
        Submitted,
        Sweep,
    )

#: A sweep this long after the last one grants the grace (ms), as documented in sweep.lua.
OUTAGE_MS = 3000


class Violation(AssertionError):
    """The ledger did what it must never do."""


@dataclass
class Holder:
    """Who may write into a flight, and until when nobody may take that away."""

    token: str
    lease_until: int


class Model:
    """Follows the replies and raises Violation at the first one that cannot be.

    Attributes:
        jobs: every accepted job and its submission.
        flight_of: the flight of each accepted job.
        holders: the token that may write, by flight.
        told_of: state that was told of each job, and heard.
        erased: jobs that were erased.
        erased_flights: flights that were erased with them.
        seen: how often each kind of reply came, to show that the rounds reached it.
    """

    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen
        self.jobs: dict[str, Submission] = {}
        self.flight_of: dict[str, str] = {}
        self.holders: dict[str, Holder] = {}
        self.told_of: dict[str, str] = {}
        self.erased: set[str] = set()
        self.erased_flights: set[str] = set()
        self._reported: set[str] = set()
        self._takers: dict[str, Holder] = {}
        self._left: set[str] = set()
        self._void: set[str] = set()
        self._settled: dict[str, set[str]] = defaultdict(set)
        self._stamps: dict[str, int] = {}
        self._losses: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        self._forgiven: dict[str, int] = {}
        self._swept_at = 0
        self._grace_end = 0

    def submitted(self, job: Submission, reply: Submitted, now: int) -> None:
        """Check an accepted or refused job."""
        self.seen[f"submit {reply.status}"] += 1
        known = job.job in self.jobs
        accepted = reply.status in {"new", "joined", "cached"}
        if accepted and (known or job.deadline_ms <= now):
            raise Violation(f"{job.job} (known: {known}) with deadline {job.deadline_ms} at {now}: {reply.status}")
        if reply.status == "late":
            return
        if self.flight_of.setdefault(job.job, reply.flight) != reply.flight:
            raise Violation(f"{job.job} moved from {self.flight_of[job.job]} to {reply.flight}")
        self.jobs.setdefault(job.job, job)
        if reply.queue and reply.stamp and reply.status != "dup":
            self.seen["lift"] += reply.status == "joined"
            self._published(reply.flight, reply.stamp)

    def claimed(self, claim: Claim, reply: Claimed | Refusal, now: int) -> None:
        """Check a granted or refused claim."""
        holder = self.holders.get(claim.flight)
        mine = holder is not None and holder.token == claim.token
        if not isinstance(reply, Claimed):
            self.seen[f"claim {reply.reason}"] += 1
            if mine:
                raise Violation(f"the holder of {claim.flight} was told {reply.reason}")
            return
        self.seen["claim ok"] += 1
        if holder is not None and not mine:
            raise Violation(f"{claim.token} got {claim.flight}, which {holder.token} holds")
        if claim.token in self._void:
            raise Violation(f"{claim.token} got {claim.flight} again after its end")
        if not mine:
            self.holders[claim.flight] = Holder(claim.token, now + getattr(claim.leases, reply.lane))

    def appended(self, flight: str, token: str, reply: Appended) -> None:
        """Check that the holder, and nobody else, could write."""
        self.seen[f"append {reply.status}"] += 1
        if (reply.status in {"ok", "gap"}) != self._holds(flight, token):
            raise Violation(f"append to {flight} by {token}, held by {self.holders.get(flight)}: {reply}")

    def renewed(self, flight: str, token: str, lease_until: int, lane: str | None) -> None:
        """Check that the holder, and nobody else, could renew."""
        self.seen[f"renew {'ok' if lane else 'refused'}"] += 1
        if (lane is not None) != self._holds(flight, token):
            raise Violation(f"renewal of {flight} by {token}, held by {self.holders.get(flight)}: {lane}")
        if lane is not None:
            self.holders[flight].lease_until = lease_until

    def settled(self, settlement: Settlement, reply: Settled) -> None:
        """Check that the holder, and nobody else, ended the token, and only once."""
        self.seen[f"settle {reply.status}"] += 1
        flight, token = settlement.flight, settlement.token
        done = reply.status in {"succeeded", "failed", "cancelled", "waiting", "queued"}
        if self._holds(flight, token) != (done or reply.status == "gap"):
            raise Violation(f"settlement of {flight} by {token}, held by {self.holders.get(flight)}: {reply}")
        if (reply.status == "already") > (token in self._settled[flight]):
            raise Violation(f"{token} had not settled {flight}: {reply}")
        if reply.status == "refused" and {token} == self._settled[flight]:
            raise Violation(f"{token}, the only one to settle {flight}, was not told what became of it")
        self._tries[flight] += reply.status == "waiting"
        if self._tries[flight] >= self._policy(flight).max_tries:
            raise Violation(f"{flight} is tried again after {self._tries[flight]} tries")
        if done:
            self.holders.pop(flight)
            self._void.add(token)
            self._settled[flight].add(token)
        if reply.status == "queued" and reply.stamp:
            self._published(flight, reply.stamp)

    def departed(self, job: str, reply: Departed) -> None:
        """Check a cancelled job."""
        self.seen[f"leave {reply.status}"] += 1
        if reply.status in {"ended", "left"}:
            if job in self._left:
                raise Violation(f"{job} left twice")
            self._left.add(job)
        if reply.status == "ended" and self.flight_of[job] in self.holders:
            raise Violation(f"{self.flight_of[job]} ended under its holder's hands, who was not called off")

    def taken(self, completion: Completion, now: int, lease_ms: int) -> None:
        """Check that nobody else has taken a completion, and that nobody has said that it was told."""
        self.seen["collect taken"] += 1
        job, taker = completion.job, self._takers.get(completion.job)
        if job in self._reported or job in self.erased:
            raise Violation(f"the end of {job} is to be told once more")
        if taker is not None and taker.token != completion.token and now < taker.lease_until:
            raise Violation(f"{completion.token} took the end of {job}, which {taker.token} tells")
        self._takers[job] = Holder(completion.token, now + lease_ms)

    def told(self, completion: Completion) -> None:
        """Note that a receiver heard of an end; raises Violation when he heard of another before."""
        self.seen[f"told {completion.state}"] += 1
        if self.told_of.setdefault(completion.job, completion.state) != completion.state:
            raise Violation(f"{completion.job} ended as {self.told_of[completion.job]} and as {completion.state}")

    def reported(self, completion: Completion, delivery: Delivery, *, noted: bool) -> None:
        """Check that only the one who has taken a completion can have it tried again."""
        self.seen[f"report {delivery} {'noted' if noted else 'refused'}"] += 1
        job, taker = completion.job, self._takers.get(completion.job)
        mine = taker is not None and taker.token == completion.token
        if delivery == "delivered":
            self._reported.add(job)
        elif noted and not mine:
            raise Violation(f"{completion.token} had the end of {job} tried again, which {taker} tells")
        if noted:
            self._takers.pop(job, None)

    def purged(self, job: str, erased: Erased) -> None:
        """Note that a job was erased, and its flight unless others share it."""
        self.seen[f"purge {erased}"] += 1
        self._left.add(job)
        self.erased.add(job)
        if erased == "erased":
            self.erased_flights.add(self.flight_of[job])

    def stores_nothing(self, flight: str) -> bool:
        """Return whether a member of a flight wants its request stored nowhere."""
        return any(self.jobs[job].store == "none" for job in self._aboard(flight))

    def begin_sweep(self, sweep: Sweep, now: int) -> None:
        """Give every lease the grace that the coming sweep must give."""
        if self._swept_at and now - self._swept_at < sweep.min_interval_ms:
            return
        if self._swept_at and now - self._swept_at > OUTAGE_MS:
            self._grace_end = now + sweep.lease_grace_ms
            self.seen["outage"] += 1
        self._swept_at = now
        if now >= self._grace_end:
            return
        for flight, holder in self.holders.items():
            if holder.lease_until <= now and self._forgiven.get(flight) != holder.lease_until:
                holder.lease_until = self._forgiven[flight] = self._grace_end
                self.seen["forgiven"] += 1

    def swept(self, publications: list[Publication]) -> None:
        """Check what a sweep wants published."""
        for publication in publications:
            self.seen[f"sweep {publication.queue.rpartition('.')[2]}"] += 1
            self._published(publication.flight, publication.stamp)

    def called_off(self, cause: str, flight: str, token: str, now: int) -> None:
        """Check that a flight was taken from the one who held it, and for a reason."""
        self.seen[f"called off by {cause}"] += 1
        if not self._holds(flight, token):
            raise Violation(f"{token} was called off {flight}, held by {self.holders.get(flight)}")
        holder = self.holders.pop(flight)
        self._void.add(token)
        aboard = [job for job in self._aboard(flight) if job not in self._left]
        wanted = any(self.jobs[job].deadline_ms > now for job in aboard)
        if cause != "sweep" or not wanted:
            return
        if holder.lease_until > now:
            raise Violation(f"{flight} was taken from {token} at {now}, whose lease lives until {holder.lease_until}")
        self._losses[flight] += 1

    def _holds(self, flight: str, token: str) -> bool:
        holder = self.holders.get(flight)
        return holder is not None and holder.token == token

    def _aboard(self, flight: str) -> list[str]:
        return [job for job, its in self.flight_of.items() if its == flight]

    def _policy(self, flight: str) -> Policy:
        return self.jobs[self._aboard(flight)[0]].policy

    def _published(self, flight: str, stamp: int) -> None:
        if flight in self.holders:
            raise Violation(f"{flight} was published while {self.holders[flight].token} holds it")
        if self._losses[flight] >= self._policy(flight).max_losses:
            raise Violation(f"{flight} goes on after {self._losses[flight]} lost workers")
        if stamp <= self._stamps.get(flight, 0):
            raise Violation(f"{flight} was published with stamp {stamp} after {self._stamps[flight]}")
        self._stamps[flight] = stamp
