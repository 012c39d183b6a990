"""The knee of one side: more and more live streams at one TPOT, until its readers wait for deltas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue_lab.bench.cores import cpu_seconds, family
from genqueue_lab.bench.verdict import quantile

if TYPE_CHECKING:
    from genqueue_lab.bench.bed import Bed
    from genqueue_lab.bench.crowds import Crowd, Window

#: Times TPOT that the p99 gap may come to.
LIMIT: Final = 2.0

#: Gaps so long after which no further step says anything, in times TPOT.
HOPELESS: Final = 1.5 * LIMIT

#: Streams that are watched of each step, and the live streams of the first one.
WATCHED: Final = 16
FIRST: Final = 100

#: Times TPOT that new streams may take to begin; who has not begun by then shows it in the gaps.
PATIENCE: Final = 20

#: Share of what the first step's processor time promises, with which the second begins: it knows no full batches yet.
CAREFUL: Final = 0.6


@dataclass(frozen=True, slots=True)
class Pace:
    """How steps follow each other; times in seconds.

    Attributes:
        tpot: of every stream.
        growth: each step's streams to those of the one before.
        ask: how long a step's streams are asked for.
        settle: what they have then until they are looked at.
        window: how long they are looked at.
        steps: most of them.
    """

    tpot: float
    growth: float
    ask: float
    settle: float
    window: float
    steps: int


@dataclass(frozen=True, slots=True)
class Step:
    """What so many live streams looked like.

    Attributes:
        streams: how many.
        rate: deltas a second that they are sent.
        p99: gap between two deltas at a reader, in times TPOT.
        late: p90 of the emulator's own delay, in times TPOT.
        readers_late: p90 of the delay of the readers' own loop, in times TPOT; 0.0 where readers call the provider.
        cpu: processor seconds a second of whoever calls the provider, and of his children.
        server_cpu: the server's, if there is one.
        seen: share of the deltas due that readers saw.
    """

    streams: int
    rate: float
    p99: float
    late: float
    readers_late: float
    cpu: float
    server_cpu: float
    seen: float

    @property
    def latest(self) -> float:
        """The emulator's delay, or the readers' if that is worse."""
        return max(self.late, self.readers_late)


#: What comes before the first step.
NOTHING: Final = Step(0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Climber:
    """One side at work.

    Attributes:
        crowd: asks for its streams.
        caller: process that calls the provider: the crowd's own, or a worker's.
        server: process of its server; None when it has none.
    """

    crowd: Crowd
    caller: int
    server: int | None = None

    def spent(self) -> tuple[float, float]:
        """Return the processor seconds used so far by the caller with its children, and by the server."""
        return cpu_seconds(family(self.caller)), cpu_seconds([] if self.server is None else [self.server])


@dataclass(frozen=True, slots=True)
class Climb:
    """All steps of one side, and where its knee is.

    Attributes:
        steps: in order; the last one is beyond the knee if that was reached.
        knee: deltas a second at which the p99 gap reaches the limit; the highest rate tried if it did not.
        reached: whether it did.
        late: the worst delay, the emulator's or the readers', in the steps on both sides of the knee.
    """

    steps: tuple[Step, ...]
    knee: float
    reached: bool
    late: float

    def text(self) -> str:
        """Return it as a line for people."""
        gaps = ", ".join(f"{step.rate:.0f}: {step.p99:.2f}" for step in self.steps)
        beyond = "" if self.reached else "beyond "
        return f"knee {beyond}{self.knee:.0f} deltas/s (p99 gap by rate: {gaps}; emulator late {self.late:.2f} TPOT)"


def knee_of(steps: tuple[Step, ...]) -> Climb:
    """Return the climb with the first crossing of the limit, between two steps in proportion."""
    for number, step in enumerate(steps):
        if step.p99 >= LIMIT:
            before = steps[number - 1] if number else NOTHING
            share = (LIMIT - before.p99) / (step.p99 - before.p99)
            knee = before.rate + share * (step.rate - before.rate)
            return Climb(steps, knee, reached=True, late=max(before.latest, step.latest))
    return Climb(steps, steps[-1].rate, reached=False, late=steps[-1].latest)


def climb(bed: Bed, side: Climber, pace: Pace, first: int = 0) -> Climb:
    """Raise the number of a side's streams until its knee is behind it; whoever calls ends them.

    Args:
        bed: with the emulator.
        side: who climbs.
        pace: of the steps.
        first: streams to begin with; 0 finds out.
    """
    steps: list[Step] = []
    live, streams = 0, first or FIRST
    while len(steps) < pace.steps:
        _grow(side.crowd, pace, live, streams)
        step = _look(bed, side, pace, streams)
        if step.p99 >= LIMIT:  # a knee stays one, a disturbance passes
            step = min(step, _look(bed, side, pace, streams), key=lambda one: one.p99)
        steps.append(step)
        if step.p99 >= LIMIT:
            break
        live = streams
        streams = round(streams * pace.growth) if len(steps) > 1 or first else _careful(step, pace)
    return knee_of(tuple(steps))


def _careful(step: Step, pace: Pace) -> int:
    """Return with how many streams to go on, from the processor time of the first ones."""
    return round(step.streams * max(pace.growth, CAREFUL / max(step.cpu + step.server_cpu, 0.01)))


def _grow(crowd: Crowd, pace: Pace, live: int, goal: int) -> None:
    """Ask for the streams that are missing, and leave them time to begin."""
    missing = goal - live
    crowd.tell("ask", missing, min(WATCHED, missing), pace.ask)
    crowd.tell("begun", pace.settle + PATIENCE * pace.tpot)
    crowd.tell("window", pace.settle, math.inf)


def _look(bed: Bed, side: Climber, pace: Pace, streams: int) -> Step:
    bed.emulator.reset_stats()
    before = side.spent()
    window: Window = side.crowd.tell("window", pace.window, HOPELESS * pace.tpot)
    cpu, server_cpu = (after - earlier for earlier, after in zip(before, side.spent(), strict=True))
    reads = side.crowd.pid != side.caller
    return Step(
        streams=streams,
        rate=streams / pace.tpot,
        p99=quantile(window.gaps, 0.99) / pace.tpot if window.gaps else HOPELESS,
        late=bed.totals()["lag_p90"] / pace.tpot,
        readers_late=quantile(window.delays, 0.9) / pace.tpot if reads else 0.0,
        cpu=cpu / pace.window,
        server_cpu=server_cpu / pace.window,
        seen=window.deltas * pace.tpot / (max(1, window.streams) * pace.window),
    )
