"""Accepting a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from genqueue.keys import Keys
    from genqueue.lanes import Lane

CacheMode = Literal["use", "refresh", "off"]
Store = Literal["request", "none"]
#: What becomes of an attempt that ended after it had shown something: another begins anew, goes on, or there is none.
OnInterrupt = Literal["restart", "continue", "fail"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a flight is tried and how long what it leaves behind is kept; stored with the flight.

    Attributes:
        dead_ttl_ms: how long a flight that failed is kept, with its request; 0 as long as any other.
        memory_high_water: percent of the server's memory from which on it is short; 100 is never.
    """

    max_tries: int
    max_losses: int
    stream_ttl_ms: int
    keep_ms: int
    cache_ttl_ms: int
    dead_ttl_ms: int = 0
    memory_high_water: int = 85


@dataclass(frozen=True, slots=True)
class Submission:
    """One job.

    Attributes:
        job, flight: ids made by the caller, in one partition; the flight is used unless the job joins another.
        fingerprint: of the question; "" shares nothing.
        deadline_ms: moment at which nobody wants the answer any more.
        mark: random text; an event `left` with it ends the job's part of the stream.
        request: payload of the canonical JSON.
        store: "none" drops the request at every end, for all members of the flight; else one that failed keeps it.
        on_done: JSON of whom to tell of the job's end (see `genqueue.on_done`); "" tells nobody.
        idem: key of the job's idempotency entry; "" without one.
        traceparent: W3C trace context of whoever submitted; "" without one.
        on_interrupt: what is to become of an attempt that is cut off; members that differ make it "restart".
        replayed_from: the job that this one repeats; "" without one.
    """

    job: str
    flight: str
    fingerprint: str
    lane: Lane
    deadline_ms: int
    tenant: str
    mark: str
    cache: CacheMode
    request: str | bytes
    policy: Policy
    store: Store = "request"
    on_done: str = ""
    idem: str = ""
    traceparent: str = ""
    on_interrupt: OnInterrupt = "restart"
    replayed_from: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that must be published: on which queue, for which flight, with which stamp.

    Attributes:
        traceparent: W3C trace context for the message's headers; "" without one.
    """

    flight: str
    queue: str
    stamp: int
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission; queue and stamp are None when there is nothing to publish.

    Attributes:
        used: percent of the server's memory, too much for a new flight of the lane (status "full").
    """

    status: Literal["new", "joined", "cached", "dup", "late", "full"]
    flight: str
    queue: str | None
    stamp: int | None
    used: int | None = None

    @property
    def publication(self) -> Publication | None:
        """What must be published, if anything."""
        return None if self.queue is None or self.stamp is None else Publication(self.flight, self.queue, self.stamp)


def submit(keys: Keys, submission: Submission, now_ms: int = 0) -> Call:
    """Return the call that accepts a job."""
    s, p = submission, submission.policy
    job = (s.job, s.flight, s.fingerprint, s.lane, s.deadline_ms, s.tenant, s.mark, s.cache, s.request)
    policy = (p.max_tries, p.max_losses, p.stream_ttl_ms, p.keep_ms, p.cache_ttl_ms, p.dead_ttl_ms)
    rest = (s.store, s.on_done, s.idem, s.traceparent, s.on_interrupt, s.replayed_from, p.memory_high_water)
    return Call(scripts.SUBMIT, (keys.slot_of_id(s.job),), (now_ms, *job, *policy, *rest))


def parse_submit(reply: Any) -> Submitted:
    """Return what became of a submission."""
    status, flight, queue, stamp = map(text, reply)
    if status == "full":
        return Submitted("full", flight, None, None, int(stamp))
    return Submitted(cast("Any", status), flight, queue or None, int(stamp) if queue else None)
