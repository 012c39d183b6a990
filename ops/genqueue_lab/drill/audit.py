"""The audit of a drill: every accepted job, every stream and every key, read raw from the server."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from genqueue.events import TERMINAL, decode, text_of
from genqueue_lab.drill.checks import faults_of
from genqueue_lab.drill.load import MODEL
from genqueue_lab.emulator.answers import compose
from genqueue_lab.emulator.catalog import MODELS
from genqueue_lab.emulator.requests import GenerateRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genqueue.events import Event
    from genqueue_lab.drill.crew import Worker
    from genqueue_lab.drill.load import Accepted
    from genqueue_lab.drill.stage import Stage
    from genqueue_lab.emulator import Pace

#: Words for the states a flight ends in.
ENDS: Final = {"succeeded": "completed", "failed": "failed", "cancelled": "cancelled", "expired": "expired"}

#: Seconds between two looks at who has ended.
LOOK: Final = 0.1

#: Streams and flights read in one round trip.
PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Held:
    """A flight that a worker held at one moment.

    Attributes:
        flight: its id.
        attempt: which one of it.
        lease: when the lease ends, in ms of the server's clock.
        lane: its lane.
        alone: whether it ran in a process of its own, which hands it back when the worker dies.
        claimed: when this attempt was claimed, in ms of the server's clock.
    """

    flight: str
    attempt: int
    lease: int
    lane: str
    alone: bool = False
    claimed: int = 0


@dataclass(frozen=True, slots=True)
class Findings:
    """What became of the accepted jobs.

    Attributes:
        accepted: how many.
        ended: how many by outcome.
        lost: jobs that did not end, or of which nothing is known.
        doubled: flights with more than one terminal event.
        faults: whatever else is wrong, a sentence each.
        streams: every stream by flight, as it stands.
        attempts: claims that were granted, by flight.
        losses: workers that were lost over a flight, all together.
    """

    accepted: int
    ended: Mapping[str, int]
    lost: Sequence[str]
    doubled: Sequence[str]
    faults: Sequence[str]
    streams: Mapping[str, Sequence[Event]] = field(repr=False)
    attempts: Mapping[str, int] = field(repr=False)
    losses: int = 0

    @property
    def all_completed(self) -> bool:
        """Whether every accepted job was answered."""
        return self.ended.get("completed", 0) == self.accepted


def answer_to(prompt: str, pace: Pace) -> str:
    """Return the text the emulator answers a plain prompt with."""
    contents = [{"role": "user", "parts": [{"text": prompt}]}]
    request = GenerateRequest(contents, {}, {}, [], {}, "standard", 0)
    return "".join(piece.part.get("text", "") for piece in compose(request, MODELS[MODEL], pace).pieces)


def fields_of(stage: Stage, flights: Sequence[str], *names: str) -> list[list[str]]:
    """Return fields of the hashes of flights, "" where there is none."""
    found: list[list[str]] = []
    for start in range(0, len(flights), PAGE):
        with stage.redis.pipeline(transaction=False) as pipeline:
            for flight in flights[start : start + PAGE]:
                pipeline.hmget(stage.keys.flight(flight), names)
            found += [[(value or b"").decode("utf-8", "replace") for value in row] for row in pipeline.execute()]
    return found


def stream_of(stage: Stage, flight: str) -> list[Event]:
    """Return a flight's stream as it stands."""
    entries: Any = stage.redis.xrange(stage.keys.events(flight))
    return [decode(*entry) for entry in entries]


def streams_of(stage: Stage, flights: Sequence[str]) -> dict[str, list[Event]]:
    """Return many streams as they stand."""
    found: dict[str, list[Event]] = {}
    for start in range(0, len(flights), PAGE):
        page = flights[start : start + PAGE]
        with stage.redis.pipeline(transaction=False) as pipeline:
            for flight in page:
                pipeline.xrange(stage.keys.events(flight))
            for flight, entries in zip(page, pipeline.execute(), strict=True):
                found[flight] = [decode(*entry) for entry in entries]
    return found


def held_by(stage: Stage, accepted: Sequence[Accepted], worker: Worker) -> list[Held]:
    """Return the flights a worker holds at this moment; what it has sent before is taken into account."""
    family = worker.family()
    stage.redis.ping()  # what a stopped process had sent lies in front of this
    flights = [job.flight for job in accepted]
    rows = fields_of(stage, flights, "state", "inbox", "attempt", "lease", "lane", "claimed")
    return [
        Held(flight, int(attempt), int(lease), lane, holder_of(inbox) != worker.pid, int(claimed))
        for flight, (state, inbox, attempt, lease, lane, claimed) in zip(flights, rows, strict=True)
        if state == "running" and holder_of(inbox) in family
    ]


def holder_of(inbox: str) -> int:
    """Return the id of the process that listens on an inbox; 0 for what names none."""
    pid = inbox.rpartition(":")[2]
    return int(pid) if pid.isdecimal() else 0


def kill_looking(stage: Stage, accepted: Sequence[Accepted], worker: Worker) -> list[Held]:
    """Kill a worker and return what it held: it is stopped first, so that nothing happens between look and kill."""
    worker.freeze()
    held = held_by(stage, accepted, worker)
    worker.kill()
    stage.dismiss(worker)
    return held


def wait_until(condition: Callable[[], bool], patience: float) -> bool:
    """Look again and again until a condition holds; returns whether it came to that."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(LOOK)
    return True


def wait_ended(stage: Stage, accepted: Sequence[Accepted], patience: float) -> bool:
    """Wait until every flight has ended, or until nothing has ended for so many seconds; returns whether all have."""
    open_flights = [job.flight for job in accepted]
    give_up = time.monotonic() + patience
    while open_flights:
        states = fields_of(stage, open_flights, "state")
        left = [flight for flight, (state,) in zip(open_flights, states, strict=True) if state not in {*ENDS, ""}]
        if len(left) < len(open_flights):
            give_up = time.monotonic() + patience
        open_flights = left
        if open_flights and time.monotonic() > give_up:
            return False
        if open_flights:
            time.sleep(LOOK)
    return True


def audit(
    stage: Stage,
    accepted: Sequence[Accepted],
    *,
    texts: bool = True,
    copies: Mapping[str, Sequence[Event]] | None = None,
) -> Findings:
    """Read everything, and say what became of every accepted job.

    Args:
        stage: where it played.
        accepted: the jobs.
        texts: whether each answer has to be what the emulator says to its prompt.
        copies: streams as they were at their end; one that is still there has to be the same, one that is not may be
            gone.
    """
    flights = [job.flight for job in accepted]
    now = streams_of(stage, flights)
    streams = {**now, **(copies or {})}
    rows = fields_of(stage, flights, "state", "attempt", "losses")
    ended: Counter[str] = Counter()
    lost, doubled, faults = [], [], keys_without_ttl(stage)
    for job, (state, _, _) in zip(accepted, rows, strict=True):
        events = streams[job.flight]
        if state not in ENDS:
            lost.append(f"{job.id} ({job.lane}): state {state or 'gone'}, last {events[-1].type if events else 'gone'}")
            continue
        ended[ENDS[state]] += 1
        if sum(event.type in TERMINAL for event in events) > 1:
            doubled.append(job.flight)
        faults += [f"{job.flight}: {fault}" for fault in faults_of(events)]
        if now[job.flight] and now[job.flight] != events:
            faults.append(f"{job.flight}: its stream has changed since its end")
        if events and events[-1].type in TERMINAL and events[-1].type != ENDS[state]:
            faults.append(f"{job.flight}: the state is {state}, the stream's end {events[-1].type}")
        if texts and state == "succeeded" and text_of(events) != answer_to(job.prompt, stage.setting.pace):
            faults.append(f"{job.flight}: its text is not the answer to its prompt")
    return Findings(
        accepted=len(accepted),
        ended=dict(ended),
        lost=lost,
        doubled=doubled,
        faults=faults,
        streams=streams,
        attempts={flight: int(row[1] or 0) for flight, row in zip(flights, rows, strict=True)},
        losses=sum(int(row[2] or 0) for row in rows),
    )


def keys_without_ttl(stage: Stage) -> list[str]:
    """Return a sentence for every key of the deployment that never expires, but for the one that shall not."""
    keys = list(stage.redis.scan_iter(match=f"{stage.keys.prefix}:*", count=1000))
    with stage.redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
        lives = pipeline.execute()
    forever = (key.decode() for key, life in zip(keys, lives, strict=True) if life == -1)
    return [f"{key} has no time to live" for key in forever if key != stage.keys.meta()]


def recoveries(held: Sequence[Held], streams: Mapping[str, Sequence[Event]], looks: Sequence[Held] = ()) -> list[float]:
    """Return the seconds from the end of each lost lease to the next claim.

    Args:
        held: the attempts that were lost.
        streams: by flight; a claim is seen by its attempt's first entry,
        looks: or, when that attempt was lost before it, by the look at what its worker held.
    """
    claims = {(one.flight, one.attempt): one.claimed for one in looks}
    found = []
    for one in (one for one in held if not one.alone):
        later = [
            int(event.id.partition("-")[0]) for event in streams.get(one.flight, ()) if event.attempt > one.attempt
        ]
        if claimed := claims.get((one.flight, one.attempt + 1)):
            later.append(claimed)
        if later:
            found.append((min(later) - one.lease) / 1000)
    return found


def pickups(streams: Iterable[Sequence[Event]]) -> list[float]:
    """Return the seconds from each submit to the first attempt's first entry."""
    found = []
    for events in streams:
        begun = [int(event.id.partition("-")[0]) for event in events if event.type in {"queued", "started"}]
        if len(begun) > 1:
            found.append((begun[1] - begun[0]) / 1000)
    return found


def silences(streams: Sequence[Sequence[Event]]) -> list[float]:
    """Return for each stream the longest time between two of its entries, in seconds."""
    longest = []
    for events in streams:
        moments = [int(event.id.partition("-")[0]) for event in events]
        longest.append(max((after - before for before, after in pairwise(moments)), default=0))
    return [value / 1000 for value in longest]
