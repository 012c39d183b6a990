"""What must be true of every reply, kept apart from the scripts that must make it so."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genqueue.lanes import LANES
from genqueue.ledger import Claimed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.lanes import Lane
    from genqueue.ledger import (
        Appended,
        Claim,
        Completion,
        Delivery,
        Departed,
        Dropped,
        Entry,
        Erased,
        OnInterrupt,
        Policy,
        Reason,
        Refusal,
        Settled,
        Settlement,
        Submission,
        Submitted,
        Sweep,
        Swept,
    )

#: A sweep this long after the last one grants the grace (ms), as documented in sweep.lua.
OUTAGE_MS = 3000
#: Losses beside others after which a flight runs alone, as documented in claim.lua.
SHARED_LOSSES = 2
#: Memory pressure from which on a lane gets no new flights, as documented in submit.lua.
FULL = {"low": 2, "normal": 3, "high": 4}


class Violation(AssertionError):
    """The ledger did what it must never do."""


@dataclass
class Holder:
    """Who may write into a flight, and until when nobody may take that away.

    Attributes:
        alone: whether the attempt has its process to itself.
    """

    token: str
    lease_until: int
    alone: bool = False


@dataclass
class Nature:
    """What a flight is like by what has happened to it.

    Attributes:
        lane: the most urgent one of its members'.
        on_interrupt: what its members want to become of an attempt that is cut off.
        shown: whether readers have seen anything that the next attempt begins anew, or goes on from.
        shared, alone: workers lost while they ran it beside others, and alone.
    """

    lane: Lane
    on_interrupt: OnInterrupt
    shown: bool = False
    shared: int = 0
    alone: int = 0

    def join(self, job: Submission) -> None:
        """Take one more member."""
        self.lane = min(self.lane, job.lane, key=LANES.index)
        if job.on_interrupt != self.on_interrupt:
            self.on_interrupt = "restart"

    @property
    def breaks_off(self) -> bool:
        """Whether the end of an attempt must be the flight's."""
        return self.shown and self.on_interrupt == "fail"


class Model:
    """Follows the replies and raises Violation at the first one that cannot be.

    Attributes:
        jobs: every accepted job and its submission.
        flight_of: the flight of each accepted job.
        holders: the token that may write, by flight.
        told_of: state that was told of each job, and heard.
        erased: jobs that were erased.
        erased_flights: flights that were erased with them.
        dropped: dead letters that were let go of.
        refused: jobs that came when memory was short.
        unkept: flights that ended when it was: their answers are not kept for equal questions.
        ended_attempts: outcome and code of each attempt that ended, by flight.
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
        self.dropped: set[str] = set()
        self.refused: set[str] = set()
        self.unkept: set[str] = set()
        self.ended_attempts: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
        self._natures: dict[str, Nature] = {}
        self._reported: set[str] = set()
        self._takers: dict[str, Holder] = {}
        self._left: set[str] = set()
        self._void: set[str] = set()
        self._settled: dict[str, set[str]] = defaultdict(set)
        self._stamps: dict[str, int] = {}
        self._tries: Counter[str] = Counter()
        self._forgiven: dict[str, int] = {}
        self._swept_at = 0
        self._outage_end = -OUTAGE_MS * 1000

    def submitted(self, job: Submission, reply: Submitted, now: int, pressure: int) -> None:
        """Check an accepted or refused job."""
        self.seen[f"submit {reply.status}"] += 1
        known = job.job in self.jobs
        accepted = reply.status in {"new", "joined", "cached"}
        if accepted and (known or job.deadline_ms <= now):
            raise Violation(f"{job.job} (known: {known}) with deadline {job.deadline_ms} at {now}: {reply.status}")
        if accepted and reply.status == "new" and pressure >= FULL[job.lane]:
            raise Violation(f"{job.job} of lane {job.lane} was taken under pressure {pressure}")
        if reply.status == "full":
            self.refused.add(job.job)
            if pressure < FULL[job.lane]:
                raise Violation(f"{job.job} of lane {job.lane} was refused under pressure {pressure}")
        if reply.status in {"late", "full"}:
            return
        if self.flight_of.setdefault(job.job, reply.flight) != reply.flight:
            raise Violation(f"{job.job} moved from {self.flight_of[job.job]} to {reply.flight}")
        self.jobs.setdefault(job.job, job)
        if reply.status == "new":
            self._natures[reply.flight] = Nature(job.lane, job.on_interrupt)
        elif reply.status == "joined":
            self._natures[reply.flight].join(job)
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
            if reply.reason == "suspect" and (claim.alone or self._natures[claim.flight].shared < SHARED_LOSSES):
                raise Violation(f"{claim} was refused: {self._natures[claim.flight]}")
            return
        self.seen["claim ok"] += 1
        if holder is not None and not mine:
            raise Violation(f"{claim.token} got {claim.flight}, which {holder.token} holds")
        if claim.token in self._void:
            raise Violation(f"{claim.token} got {claim.flight} again after its end")
        if not mine:
            self.holders[claim.flight] = Holder(claim.token, now + getattr(claim.leases, reply.lane), claim.alone)
            self._begun(claim, reply)

    def _begun(self, claim: Claim, claimed: Claimed) -> None:
        """Check that a new attempt may run where it does, and goes on from what was shown exactly when it must."""
        nature = self._natures[claim.flight]
        if nature.shared >= SHARED_LOSSES and not claim.alone:
            raise Violation(f"{claim.flight} runs beside others after {nature.shared} losses")
        if claimed.on_interrupt != nature.on_interrupt:
            raise Violation(f"{claim.flight} is to {claimed.on_interrupt}, its members want to {nature.on_interrupt}")
        if claimed.resumed != (nature.shown and nature.on_interrupt == "continue"):
            raise Violation(f"{claim.flight} goes on: {claimed.resumed}, though {nature}")
        nature.shown = claimed.resumed
        self.seen["resumed"] += claimed.resumed

    def appended(self, flight: str, token: str, reply: Appended, entries: Sequence[Entry]) -> None:
        """Check that the holder, and nobody else, could write."""
        self.seen[f"append {reply.status}"] += 1
        if (reply.status in {"ok", "gap"}) != self._holds(flight, token):
            raise Violation(f"append to {flight} by {token}, held by {self.holders.get(flight)}: {reply}")
        if reply.status == "ok":
            self._show(flight, entries)

    def _show(self, flight: str, entries: Sequence[Entry]) -> None:
        self._natures[flight].shown |= any(entry["type"] != "started" for entry in entries)

    def renewed(self, flight: str, token: str, lease_until: int, lane: str | None) -> None:
        """Check that the holder, and nobody else, could renew."""
        self.seen[f"renew {'ok' if lane else 'refused'}"] += 1
        if (lane is not None) != self._holds(flight, token):
            raise Violation(f"renewal of {flight} by {token}, held by {self.holders.get(flight)}: {lane}")
        if lane is not None:
            self.holders[flight].lease_until = lease_until

    def settled(self, settlement: Settlement, reply: Settled, now: int, pressure: int) -> None:
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
        self._tries[flight] += reply.status == "waiting" and settlement.outcome == "retry"
        if self._tries[flight] >= self._policy(flight).max_tries:
            raise Violation(f"{flight} is tried again after {self._tries[flight]} tries")
        if done:
            self._show(flight, settlement.entries)
            self._check_outcome(settlement, reply, now)
            if pressure and reply.status == "succeeded":
                self.unkept.add(flight)
            self.holders.pop(flight)
            self._void.add(token)
            self._settled[flight].add(token)
        if reply.status == "queued" and reply.stamp:
            self._published(flight, reply.stamp)

    def _check_outcome(self, settlement: Settlement, reply: Settled, now: int) -> None:
        """Check that what an attempt came to is the flight's end exactly when it must be."""
        flight, outcome, nature = settlement.flight, settlement.outcome, self._natures[settlement.flight]
        code = settlement.detail.get("code")
        if outcome in {"failed", "retry", "interrupted"}:
            self.ended_attempts[flight].append((outcome, None if code is None else str(code)))
        if outcome in {"retry", "interrupted"}:
            over = nature.breaks_off
            self.seen["broken off"] += over
            if outcome == "retry":
                moment = now + settlement.delay_ms
                wanted = any(
                    self.jobs[job].deadline_ms > moment for job in self._aboard(flight) if job not in self._left
                )
                self.seen["retry too late"] += not wanted
                over |= self._tries[flight] + (reply.status == "failed") >= self._policy(flight).max_tries or not wanted
            if over != (reply.status == "failed"):
                raise Violation(f"{flight}, {nature}, ended with {outcome}: {reply}")
        dead = reply.status == "failed" and settlement.detail.get("retryable") == "1"
        if reply.dead != dead:
            raise Violation(f"{settlement} made a dead letter: {reply.dead}")
        self.seen["settle dead"] += dead

    def departed(self, job: str, reason: Reason, reply: Departed, now: int) -> None:
        """Check a job that was cancelled, or ended because its deadline has passed."""
        self.seen[f"leave {reply.status}"] += 1
        if job in self._left and reply.status == "done":
            raise Violation(f"{job} has left, and is told how its flight ended")
        if reason == "expired" and reply.status in {"ended", "left", "early"}:
            if (reply.status == "early") != (self.jobs[job].deadline_ms > now):
                raise Violation(f"{job}, wanted until {self.jobs[job].deadline_ms}, has expired at {now}: {reply}")
            self.seen[f"expired by its reader: {reply.status}"] += 1
        if reply.status in {"ended", "left"}:
            if job in self._left:
                raise Violation(f"{job} left twice")
            self._left.add(job)
        if reply.status == "ended" and self.flight_of[job] in self.holders:
            raise Violation(f"{self.flight_of[job]} ended under its holder's hands, who was not called off")

    def revoked(self, flight: str, reply: Departed) -> None:
        """Check a flight that was cancelled for all of its jobs."""
        self.seen[f"revoke {reply.status}"] += 1
        if reply.status == "ended":
            self._left.update(self._aboard(flight))
        if reply.status == "ended" and flight in self.holders:
            raise Violation(f"{flight} was revoked under its holder's hands, who was not called off")

    def drop(self, flight: str, reply: Dropped) -> None:
        """Check that a dead letter is let go of once."""
        self.seen[f"drop {reply}"] += 1
        if reply == "dropped":
            if flight in self.dropped:
                raise Violation(f"{flight} was dropped twice")
            self.dropped.add(flight)

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
            self._outage_end = now
            self.seen["outage"] += 1
        self._swept_at = now
        for flight, holder in self.holders.items():
            high = self._natures[flight].lane == "high"
            grace_end = self._outage_end + (sweep.grace_high_ms if high else sweep.grace_other_ms)
            if now >= grace_end:
                continue
            if holder.lease_until <= now and self._forgiven.get(flight) != holder.lease_until:
                holder.lease_until = self._forgiven[flight] = grace_end
                self.seen["forgiven"] += 1

    def swept(self, found: list[Swept]) -> None:
        """Check what a sweep wants published, and what it gave up."""
        for one in found:
            self.seen[f"sweep {one.why}"] += 1
            nature = self._natures[one.flight]
            over = nature.alone >= self._policy(one.flight).max_losses or nature.breaks_off
            if one.why in {"dead", "lost"} and over != (one.why == "dead"):
                raise Violation(f"{one.flight}, {nature}, was found {one.why}")
            if one.publication is not None:
                self._published(one.flight, one.publication.stamp)

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
        nature = self._natures[flight]
        nature.alone += holder.alone
        nature.shared += not holder.alone
        self.ended_attempts[flight].append(("lost", None))

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
        nature = self._natures[flight]
        if nature.alone >= self._policy(flight).max_losses:
            raise Violation(f"{flight} goes on after {nature.alone} workers were lost that ran it alone")
        if stamp <= self._stamps.get(flight, 0):
            raise Violation(f"{flight} was published with stamp {stamp} after {self._stamps[flight]}")
        self._stamps[flight] = stamp
