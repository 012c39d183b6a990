"""The ledger's commands as values: what to call, and what the replies mean. No I/O; `genqueue.scripts` runs the calls.

Moments and durations are integer milliseconds here, as in the scripts. `now_ms` is the moment a call takes place;
0, the default, is the server's own clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from genqueue import scripts
from genqueue.scripts import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genqueue.keys import Keys
    from genqueue.lanes import Lane

Value: TypeAlias = str | bytes | int
#: The fields of one event, "type" among them; v, attempt and n are added by the server.
Entry: TypeAlias = Mapping[str, Value]

CacheMode = Literal["use", "refresh", "off"]
Outcome = Literal["succeeded", "failed", "cancelled", "retry", "interrupted"]
Reason = Literal["cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a flight is tried and how long what it leaves behind is kept; stored with the flight."""

    max_tries: int
    max_losses: int
    stream_ttl_ms: int
    keep_ms: int
    cache_ttl_ms: int


@dataclass(frozen=True, slots=True)
class Submission:
    """One job.

    Attributes:
        job, flight: ids made by the caller, in one partition; the flight is used unless the job joins another.
        fingerprint: of the question; "" shares nothing.
        deadline_ms: moment at which nobody wants the answer any more.
        mark: random text; an event `left` with it ends the job's part of the stream.
        request: canonical JSON.
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


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that must be published: on which queue, for which flight, with which stamp."""

    flight: str
    queue: str
    stamp: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission; queue and stamp are None when there is nothing to publish."""

    status: Literal["new", "joined", "cached", "dup", "late"]
    flight: str
    queue: str | None
    stamp: int | None

    @property
    def publication(self) -> Publication | None:
        """What must be published, if anything."""
        return None if self.queue is None or self.stamp is None else Publication(self.flight, self.queue, self.stamp)


@dataclass(frozen=True, slots=True)
class Leases:
    """How long a token lives without renewal, by lane, in ms."""

    high: int
    normal: int
    low: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish to run a flight.

    Attributes:
        token: random text, made for this claim.
        stamp: the one in the message.
        inbox: channel on which the worker hears that the flight was taken from it.
    """

    flight: str
    token: str
    stamp: int
    inbox: str
    leases: Leases


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was granted.

    Attributes:
        attempt: its number, for display.
        written: entries this attempt has written; more than 0 only when a claim is repeated.
        request: canonical JSON.
        created_ms, claimed_ms: when the flight was submitted and when this attempt began, by the server's clock.
        tries: attempts that failed before.
    """

    attempt: int
    written: int
    lane: Lane
    deadline_ms: int
    tenant: str
    request: bytes
    created_ms: int
    claimed_ms: int
    tries: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A claim that was not granted."""

    reason: Literal["gone", "done", "leased", "spent", "notyet", "late"]


@dataclass(frozen=True, slots=True)
class Appended:
    """Whether entries were written, and how many entries of this attempt the stream has now."""

    status: Literal["ok", "gap", "refused", "gone"]
    written: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an attempt.

    Attributes:
        first: number of the first of `entries`, the attempt's last ones.
        delay_ms: how long a retry waits.
        result: JSON of the folded answer.
        replay: entries from which the answer can be given again; None keeps it out of the cache.
        detail: fields of the terminal event.
    """

    flight: str
    token: str
    outcome: Outcome
    first: int = 1
    entries: Sequence[Entry] = ()
    delay_ms: int = 0
    result: str | bytes = ""
    replay: Sequence[Entry] | None = None
    detail: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did.

    Attributes:
        state: of the flight now, when the token was settled before (status "already").
        written: entries of this attempt in the stream, when some before `first` are missing (status "gap").
        queue, stamp: when something must be published.
    """

    status: Literal["succeeded", "failed", "cancelled", "waiting", "queued", "already", "refused", "gone", "gap"]
    state: str | None
    written: int | None
    queue: str | None
    stamp: int | None


@dataclass(frozen=True, slots=True)
class Departed:
    """What a job's leaving did.

    Attributes:
        inbox, token: of the worker that ran the flight, None without one (status "ended", "left").
        reason: why it had left before (status "already").
        state: how its flight had ended (status "done").
    """

    status: Literal["ended", "left", "already", "done", "gone"]
    inbox: str | None = None
    token: str | None = None
    reason: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class QueueReading:
    """What a worker knows about a queue: the highest stamp popped by anybody, and whether it is empty."""

    queue: str
    popped: int
    empty: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """One look at a partition.

    Attributes:
        limit: flights looked at per list.
        slack_ms: how far behind the highest stamp popped a message counts as lost.
        lease_grace_ms: lease given once to every holder after an outage.
        min_interval_ms: a sweep sooner after the last one does nothing.
    """

    limit: int
    slack_ms: int
    lease_grace_ms: int
    min_interval_ms: int
    queues: Sequence[QueueReading] = ()


def submit(keys: Keys, submission: Submission, now_ms: int = 0) -> Call:
    """Return the call that accepts a job."""
    s, p = submission, submission.policy
    job = (s.job, s.flight, s.fingerprint, s.lane, s.deadline_ms, s.tenant, s.mark, s.cache, s.request)
    policy = (p.max_tries, p.max_losses, p.stream_ttl_ms, p.keep_ms, p.cache_ttl_ms)
    return Call(scripts.SUBMIT, (keys.slot_of_id(s.job),), (now_ms, *job, *policy))


def parse_submit(reply: Any) -> Submitted:
    """Return what became of a submission."""
    status, flight, queue, stamp = map(_text, reply)
    return Submitted(cast("Any", status), flight, queue or None, int(stamp) if queue else None)


def claim(keys: Keys, wish: Claim, now_ms: int = 0) -> Call:
    """Return the call that takes a queued flight."""
    leases = (wish.leases.high, wish.leases.normal, wish.leases.low)
    args = (now_ms, wish.flight, wish.token, wish.stamp, wish.inbox, *leases)
    return Call(scripts.CLAIM, (keys.slot_of_id(wish.flight),), args)


def parse_claim(reply: Any) -> Claimed | Refusal:
    """Return the flight's facts, or why it was not granted."""
    status, *facts = reply
    if status != b"ok":
        return Refusal(cast("Any", _text(status)))
    attempt, written, lane, deadline_ms, tenant, request, created_ms, claimed_ms, tries = facts
    return Claimed(
        attempt,
        written,
        cast("Lane", _text(lane)),
        deadline_ms,
        _text(tenant),
        request,
        created_ms,
        claimed_ms,
        tries,
    )


def append(keys: Keys, flight: str, token: str, first: int, entries: Sequence[Entry]) -> Call:
    """Return the call that writes an attempt's entries, the first of which has the number `first` (from 1)."""
    return Call(scripts.APPEND, (keys.slot_of_id(flight),), (0, flight, token, first, *_flat_entries(entries)))


def parse_append(reply: Any) -> Appended:
    """Return whether the entries were written."""
    return Appended(cast("Any", _text(reply[0])), int(reply[1]))


def renew(keys: Keys, flight: str, token: str, lease_ms: int, now_ms: int = 0) -> Call:
    """Return the call that renews a lease."""
    return Call(scripts.RENEW, (keys.slot_of_id(flight),), (now_ms, flight, token, lease_ms))


def parse_renew(reply: Any) -> Lane | None:
    """Return the lane the flight has now (a join may have raised it), None when the token is void."""
    status, lane = map(_text, reply)
    return cast("Lane", lane) if status == "ok" else None


def settle(keys: Keys, settlement: Settlement, now_ms: int = 0) -> Call:
    """Return the call that ends an attempt."""
    s = settlement
    replay = "" if s.replay is None else json.dumps([[_text(value) for value in _flat(entry)] for entry in s.replay])
    detail = [part for pair in s.detail.items() for part in pair]
    head = (now_ms, s.flight, s.token, s.outcome, s.delay_ms, s.result, replay, len(detail))
    return Call(scripts.SETTLE, (keys.slot_of_id(s.flight),), (*head, *detail, s.first, *_flat_entries(s.entries)))


def parse_settle(reply: Any) -> Settled:
    """Return what a settlement did."""
    status, extra, queue, stamp = map(_text, reply)
    return Settled(
        cast("Any", status),
        state=extra if status == "already" else None,
        written=int(extra) if status == "gap" else None,
        queue=queue or None,
        stamp=int(stamp) if queue else None,
    )


def leave(keys: Keys, job: str, reason: Reason) -> Call:
    """Return the call that takes a job off its flight."""
    return Call(scripts.LEAVE, (keys.slot_of_id(job),), (0, job, reason))


def parse_leave(reply: Any) -> Departed:
    """Return what a job's leaving did."""
    match list(map(_text, reply)):
        case [("ended" | "left") as status, inbox, token]:
            return Departed(cast("Any", status), inbox=inbox or None, token=token or None)
        case ["already", reason]:
            return Departed("already", reason=reason)
        case ["done", state]:
            return Departed("done", state=state)
    return Departed("gone")


def sweep(keys: Keys, partition: int, look: Sweep, now_ms: int = 0) -> Call:
    """Return the call that looks after a partition."""
    readings = [part for q in look.queues for part in (q.queue, q.popped, int(q.empty))]
    head = (now_ms, look.limit, look.slack_ms, look.lease_grace_ms, look.min_interval_ms)
    return Call(scripts.SWEEP, (keys.slot(partition),), (*head, *readings))


def parse_sweep(reply: Any) -> list[Publication]:
    """Return what must be published."""
    return [Publication(_text(flight), _text(queue), int(stamp)) for flight, queue, stamp in reply]


def mark(keys: Keys, popped: Mapping[str, int]) -> Call:
    """Return the call that notes the highest stamp popped from each queue."""
    return Call(scripts.MARK, (keys.marks(),), tuple(part for pair in popped.items() for part in pair))


def parse_marks(reply: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the highest stamp popped from each queue, from the hash at `keys.marks()`."""
    return {queue.decode(): int(stamp) for queue, stamp in reply.items() if stamp.isdigit()}


def _text(value: str | bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _flat(entry: Entry) -> Iterable[Value]:
    yield "type"
    yield entry["type"]
    for name, value in entry.items():
        if name != "type":
            yield name
            yield value


def _flat_entries(entries: Sequence[Entry]) -> Iterable[Value]:
    yield len(entries)
    for entry in entries:
        yield 2 * len(entry)
        yield from _flat(entry)
