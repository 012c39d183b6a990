"""The knee of one process: deltas a second at which readers begin to wait, through genqueue and without.

All streams have one TPOT. Their number is raised in steps until the p99 gap between two deltas, where they are read,
reaches twice that; from there on the process falls behind. Sides:

- genqueue: submitted by the SDK, run by one worker process, some streams read by the SDK's tails, all rung for;
- floor: our own wire client on our own connections in one process, no queue and no server;
- direct: google-genai in one asyncio process, with one client for all;
- textbook: Celery's thread pool with as many threads as there are streams, google-genai, one XADD for each chunk.

Readers and emulator share a core; whoever calls the provider has the other one, genqueue's worker and the textbook's
together with their server. Genqueue and the floor take turns, and what decides is the ratio of their knees.

Before that, a thousand streams at a slower TPOT: all wait, and start at once. None may show a gap, none may be lost,
and the worker's memory is held against its limit. How long all of them take to start is told beside the floor's time.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.bench import chart, crowd_sides
from genqueue_lab.bench.bed import LATE, Bed, Layout
from genqueue_lab.bench.climb import LIMIT, Climb, Climber, Pace, climb
from genqueue_lab.bench.crowds import Crowd
from genqueue_lab.bench.report import Promise, Report, interval
from genqueue_lab.bench.thousand import LIVE, PATIENCE, Thousand, spread_of, thousand
from genqueue_lab.bench.verdict import Estimate, estimate, quantile_of, ratio_of
from genqueue_lab.emulator import Pace as Answers
from genqueue_lab.textbook.peer import TextbookWorker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from genqueue_lab.bench.plan import Plan
    from genqueue_lab.drill.crew import Worker

#: What a worker of ours must reach of the floor's knee.
SHARE: Final = 0.6

#: Bytes a worker may hold with a thousand live streams.
MEMORY: Final = 400_000_000

#: Seconds between two deltas of a stream, and deltas of one: more than any climb takes.
TPOT: Final = 0.1
TOKENS: Final = 900

#: Streams that our worker may have at once, and the textbook's threads.
SLOTS: Final = 5000
THREADS: Final = 1000

#: Seconds until the provider has seen that nobody waits for its streams any more.
ENDED: Final = 60.0

#: Share of the last knee with which the next climb begins.
AGAIN: Final = 0.7

#: The mechanism that the control goes without.
WITHOUT: Final = "batches"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        rounds: climbs of each side that decides.
        pace: of their steps.
        others: of those that decide nothing.
        windows: in which a thousand are looked at.
    """

    rounds: int
    pace: Pace
    others: Pace
    windows: int


QUICK: Final = Extent(
    2,
    Pace(TPOT, growth=1.3, ask=0.4, settle=0.3, window=1.0, steps=9),
    Pace(TPOT, growth=2.0, ask=0.4, settle=0.3, window=1.0, steps=3),
    2,
)
FULL: Final = Extent(
    6,
    Pace(TPOT, growth=1.15, ask=0.5, settle=0.5, window=2.0, steps=16),
    Pace(TPOT, growth=1.3, ask=0.5, settle=0.5, window=2.0, steps=12),
    4,
)

#: Streams with which those begin that decide nothing.
FEW: Final = 30


def run(plan: Plan) -> Report:
    """Measure, and hold genqueue against the floor."""
    extent = QUICK if plan.quick else FULL
    with Bed(Layout(pace=Answers(ttft=0.2, tpot=TPOT, tokens=TOKENS), logs=plan.logs)) as bed:
        settings = {"slots": SLOTS, "max_connections": crowd_sides.CONNECTIONS, "first_token_timeout": 4 * PATIENCE}
        worker = bed.hire(WITHOUT if plan.control else None, **settings)
        with _calling(bed, "floor") as floor, _reading(bed, "genqueue", worker) as ours:
            usual = spread_of(bed, floor.crowd)
            stood = thousand(bed, ours.crowd, worker, extent.windows)
            plan.say(f"{LIVE} live streams: {stood.text()}; the floor's {usual:.2f} s")
            climbs = _climbs(bed, {"floor": floor, "genqueue": ours}, extent, plan)
        worker.kill()
        climbs |= _peers(bed, extent.others, plan)
    if plan.chart:
        plan.say(f"chart: {chart.save('concurrency', lambda axes: _draw(axes, climbs))}")
    return _report(climbs, stood, usual, control=plan.control)


@contextmanager
def _calling(bed: Bed, name: str) -> Iterator[Climber]:
    """Start a side that calls the provider itself."""
    with ExitStack() as stack:
        with bed.cores.at_work():
            crowd = stack.enter_context(Crowd(name, getattr(crowd_sides, name), _config(bed)))
        yield Climber(crowd, crowd.pid)


@contextmanager
def _reading(bed: Bed, name: str, worker: Worker) -> Iterator[Climber]:
    """Start a side whose worker calls the provider."""
    worker.wait_ready()
    with ExitStack() as stack:
        with bed.cores.at_load():
            crowd = stack.enter_context(Crowd(name, getattr(crowd_sides, name), _config(bed)))
        yield Climber(crowd, worker.pid, bed.server.pid)


def _config(bed: Bed) -> dict[str, Any]:
    return {
        "url": bed.emulator.url,
        "ca_file": str(bed.emulator.ca_file),
        "redis": bed.server.url(),
        "port": bed.server.port,
        "textbook": bed.server.url(1),
    }


def _climbs(bed: Bed, sides: Mapping[str, Climber], extent: Extent, plan: Plan) -> dict[str, list[Climb]]:
    """Climb with both sides in turn, each from near its last knee."""
    found: dict[str, list[Climb]] = {name: [] for name in sides}
    for number in range(extent.rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            first = round(AGAIN * found[name][-1].knee * TPOT) if found[name] else 0
            climbed = climb(bed, sides[name], extent.pace, first)
            sides[name].crowd.tell("call_off")
            bed.emulator.wait(ENDED, live_at_most=0)
            found[name].append(climbed)
            plan.say(f"round {number + 1} of {extent.rounds}, {name}: {climbed.text()}")
    return found


def _peers(bed: Bed, pace: Pace, plan: Plan) -> dict[str, list[Climb]]:
    """Climb once with each of those that decide nothing."""
    worker = bed.employ(_Textbook, "textbook", {"TEXTBOOK_REDIS_URL": bed.server.url(1), **bed.provider()})
    found = {}
    with _calling(bed, "direct") as direct:
        found["direct"] = [climb(bed, direct, pace, FEW)]
    bed.emulator.wait(ENDED, live_at_most=0)  # the process that read them is gone
    plan.say(f"direct: {found['direct'][0].text()}")
    with _reading(bed, "textbook", worker) as textbook:
        found["textbook"] = [climb(bed, textbook, pace, FEW)]
    plan.say(f"textbook: {found['textbook'][0].text()}")
    return found


def _report(climbs: Mapping[str, Sequence[Climb]], stood: Thousand, usual: float, *, control: bool) -> Report:
    ours, floor = climbs["genqueue"], climbs["floor"]
    rounds = [pair for pair in zip(ours, floor, strict=True) if _is_clear(pair[0])]
    clear = [pair for pair in rounds if _is_clear(pair[1]) and pair[1].reached]
    # With a late emulator the floor's knee is higher than it seems, and what fails against it fails all the more.
    reached = ratio_of([(one.knee, other.knee) for one, other in clear or rounds or zip(ours, floor, strict=True)])
    lost = len(ours) - len(rounds if reached.reaches(SHARE) == "fails" else clear)
    promises = (
        Promise("knee over the floor's", reached, SHARE, "times", at_least=True),
        Promise(f"p99 gap of {LIVE} streams", quantile_of(stood.gaps, 0.99), LIMIT, "times TPOT"),
        Promise(f"memory with {LIVE} streams", _exact(stood.memory / 1e6), MEMORY / 1e6, "MB"),
        Promise("streams live at once", _exact(stood.live), LIVE, "streams", at_least=True),
        Promise("streams whole", _exact(stood.whole), LIVE, "streams", at_least=True),
    )
    return Report(
        "concurrency",
        promises,
        {name: _figures(found) for name, found in climbs.items()},
        {
            "spread": round(stood.spread, 3),
            "spread of the floor": round(usual, 3),
            "spread over the floor's": round(stood.spread / usual, 3),
        },
        void=_void(lost, len(ours), stood),
        control=control,
    )


def _is_clear(climbed: Climb) -> bool:
    return climbed.late <= LATE


def _void(lost: int, rounds: int, stood: Thousand) -> str | None:
    """Return why nothing can be concluded; None when something can."""
    if stood.late > LATE:
        return f"with {LIVE} streams the emulator was late by {stood.late:.2f} TPOT (p90)"
    if lost * 2 >= rounds:
        return f"in {lost} of {rounds} rounds emulator or readers were late, or the floor's knee out of reach"
    return None


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def _figures(climbs: Sequence[Climb]) -> dict[str, Any]:
    knees = estimate([one.knee for one in climbs], statistics.median)
    best = [one.steps[-2] if one.reached and len(one.steps) > 1 else one.steps[-1] for one in climbs]
    return {
        "knee": interval(knees, 0),
        "streams": round(knees.value * TPOT),
        "cpu_us": round(statistics.median(step.cpu / step.rate for step in best) * 1e6, 1),
        "server_us": round(statistics.median(step.server_cpu / step.rate for step in best) * 1e6, 1),
        "reached": all(one.reached for one in climbs),
        "late_p90": round(statistics.median(one.late for one in climbs), 3),
    }


def _draw(axes: Any, climbs: Mapping[str, Sequence[Climb]]) -> None:
    """Draw the p99 gap over the deltas a second, a line for each climb."""
    for number, (name, found) in enumerate(climbs.items()):
        for one in found:
            label = name if one is found[0] else None
            rates, gaps = [step.rate for step in one.steps], [step.p99 for step in one.steps]
            axes.plot(rates, gaps, color=f"C{number}", marker=".", linewidth=1.2, label=label)
    axes.axhline(LIMIT, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("deltas a second")
    axes.set_ylabel("p99 gap between two deltas at a reader, times TPOT")
    axes.set_ylim(0.5, 3 * LIMIT)
    axes.set_title(f"one process, more and more live streams at a TPOT of {TPOT * 1000:g} ms")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper right")


class _Textbook(TextbookWorker):
    """A worker of the textbook set-up with a thread for each stream."""

    def command(self, without: str | None) -> tuple[str, ...]:
        """Return the program and its arguments."""
        real = super().command(without)
        place = real.index("--concurrency") + 1
        return (*real[:place], str(THREADS), *real[place + 1 :])
