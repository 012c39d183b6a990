"""Time to first token: from a planned submit to the first delta at its reader, through genqueue and without.

20 jobs a second, answers of 40 chunks 15 ms apart whose first one comes after 200 ms, TLS and HTTP/2 throughout but
for the textbook set-up, whose google-genai speaks what it comes with. Series, one at a time, in rounds whose order is
drawn anew; within a round all have the same moments of sending:

- genqueue: submitted by the SDK, run by one worker, read by the SDK's tail;
- direct: google-genai called by one client, kept for all requests;
- anew: google-genai called by a new client for each request. That takes most of a core, so it gets few requests;
- floor: our own wire client on our own connections, and no queue;
- textbook: Celery's thread pool, google-genai, one XADD for each chunk, one XREAD for each reader;
- arq, saq, streaq, taskiq: google-genai in an asyncio task, the rest as in the textbook set-up.

Readers share a core with the emulator: it is the load. Whoever calls the provider is on the other core. So direct and
floor have a core to themselves, and genqueue's worker shares it with its server (and with the idle workers of the
others). With direct on the emulator's core it would be direct that looked worse.
"""

from __future__ import annotations

import random
import re
import statistics
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.bench import chart
from genqueue_lab.bench.bed import Bed, Layout
from genqueue_lab.bench.cores import cpu_seconds, family
from genqueue_lab.bench.drivers import Driver, DriverEnded, Recipe, module_path
from genqueue_lab.bench.load import Plan as Load
from genqueue_lab.bench.report import Promise, Report, interval
from genqueue_lab.bench.verdict import difference_of, quantile, quantile_of
from genqueue_lab.emulator import Pace
from genqueue_lab.fleet import wait_ready
from genqueue_lab.peers.environments import pythons
from genqueue_lab.processes import ProcessEnded
from genqueue_lab.processes import Recipe as Program
from genqueue_lab.textbook.peer import TextbookWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from genqueue_lab.bench.cores import Cores
    from genqueue_lab.bench.load import Recording
    from genqueue_lab.bench.plan import Plan
    from genqueue_lab.bench.verdict import Estimate

MODEL: Final = "gemini-2.5-flash"
PACE: Final = Pace(ttft=0.2, tpot=0.015, tokens=40)

#: Jobs a second.
RATE: Final = 20.0

#: Milliseconds that genqueue may have more than another series.
P50_OVER_DIRECT: Final = 0.0
P90_OVER_DIRECT: Final = 5.0
P50_OVER_FLOOR: Final = 6.0

#: Answers that one worker of the textbook set-up streams at once.
THREADS: Final = 40

#: Seconds of load before a series is measured, and how long an answer is then.
WARM_UP: Final = 0.3
WARM_PACE: Final = {"ttft": 0.05, "tokens": 5}

_SERIES: Final = "genqueue_lab.bench.series"
_PEERS: Final = "genqueue_lab.peers"

#: What a peer's worker prints.
_READY: Final = re.compile(r"^ready$")

#: What decides; every round has them.
_CORE: Final = ("genqueue", "direct", "floor")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        rounds: rounds.
        seconds: of load in each, for each series.
        others: every so many rounds the series that decide nothing are measured too.
        anew: seconds of load of `anew`, whose requests cost too much to sustain.
    """

    rounds: int
    seconds: float
    others: int
    anew: float


QUICK: Final = Extent(rounds=4, seconds=1.2, others=4, anew=0.4)
FULL: Final = Extent(rounds=26, seconds=4.0, others=3, anew=1.0)


@dataclass(slots=True)
class Found:
    """What was measured of one series, round by round.

    Attributes:
        recordings: what its readers saw.
        lags: delays of the emulator's chunks, p90 of each round, in ms.
        cpu: processor seconds of its worker.
    """

    recordings: dict[int, Recording] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def add(self, number: int, recording: Recording, cpu: float, lag: float) -> None:
        """Add a round."""
        self.recordings[number] = recording
        self.cpu += cpu
        self.lags.append(lag)

    @property
    def first(self) -> list[list[float]]:
        """Times to first token of each round."""
        return [recording.first for recording in self.recordings.values()]

    @property
    def answered(self) -> int:
        """Jobs that were answered whole."""
        return sum(len(recording.total) for recording in self.recordings.values())

    @property
    def failed(self) -> list[str]:
        """How each of the others ended."""
        return [line for recording in self.recordings.values() for line in recording.failed]


@dataclass(frozen=True, slots=True)
class Measured:
    """One series at work: its driver, and the process that calls the provider, whose processor time counts."""

    driver: Driver
    caller: int

    def place(self, cores: Cores) -> None:
        """Put its processes onto the cores where they belong."""
        cores.return_to_load(self.driver.pid)
        cores.return_to_work(self.caller)


def run(plan: Plan) -> Report:
    """Measure, and hold genqueue against the others."""
    extent = QUICK if plan.quick else FULL
    pythons_of, missing = pythons(plan.say)
    with Bed(Layout(pace=PACE, logs=plan.logs)) as bed:
        ours, peers = _start_ours(bed, control=plan.control), _start_peers(bed, pythons_of)
        series, failed = _ready({**ours, **peers})
        found = {name: Found() for name in series}
        with bed.emulator.paced(**WARM_PACE):
            for name, measured in series.items():
                measured.place(bed.cores)
                _measure(bed, measured, Load.steady(RATE, WARM_UP, f"warm {name}", plan.seed))
        for number in range(extent.rounds):
            for name, load in _round(series, number, extent, plan.seed):
                found[name].add(number, *_measure(bed, series[name], load))
            plan.say(f"round {number + 1} of {extent.rounds}")
        report = _report(found, {**missing, **failed}, bed, control=plan.control)
    if plan.chart:
        plan.say(f"chart: {chart.save('ttft', lambda axes: _draw(axes, found))}")
    return report


@dataclass(frozen=True, slots=True)
class Started:
    """One series on its way: its driver, its worker if it has one, and how to wait until that is ready."""

    driver: Driver
    worker: int | None = None
    wait_ready: Callable[[], object] = lambda: None


def _start_ours(bed: Bed, *, control: bool) -> dict[str, Started]:
    """Start what needs no environment of its own."""
    emulator = {"url": bed.emulator.url, "ca_file": str(bed.emulator.ca_file), "model": MODEL}
    settings = {"data_url": bed.server.url()}
    database = bed.server.url(1)
    worker = bed.hire("connections" if control else None)
    threads = bed.employ(_Textbook, "textbook", {"TEXTBOOK_REDIS_URL": database, **bed.provider()})
    for process in (worker, threads):
        bed.cores.lend(process.pid)
    queued = bed.drive(Recipe(f"{_SERIES}.queued", {"settings": settings, "model": MODEL}))
    textbook = bed.drive(Recipe(f"{_SERIES}.textbook", {"url": database}))
    return {
        "genqueue": Started(queued, worker.pid, worker.wait_ready),
        "direct": Started(bed.drive(Recipe(f"{_SERIES}.direct", {**emulator, "anew": False}), calls_provider=True)),
        "anew": Started(bed.drive(Recipe(f"{_SERIES}.direct", {**emulator, "anew": True}), calls_provider=True)),
        "floor": Started(bed.drive(Recipe(f"{_SERIES}.floor", emulator), calls_provider=True)),
        "textbook": Started(textbook, threads.pid, threads.wait_ready),
    }


def _start_peers(bed: Bed, pythons_of: Mapping[str, str]) -> dict[str, Started]:
    """Start the peers that are installed."""
    started = {}
    for number, (name, python) in enumerate(pythons_of.items(), start=2):
        database, module = bed.server.url(number), f"{_PEERS}.{name}"
        environment = {"PYTHONPATH": module_path(), **bed.provider()}
        worker = bed.start(Program(name, (python, "-P", "-m", module, database), _READY, environment))
        bed.cores.lend(worker.pid)
        driver = bed.drive(Recipe(module, {"url": database}, python))
        started[name] = Started(driver, worker.pid, partial(wait_ready, worker))
    return started


def _ready(started: Mapping[str, Started]) -> tuple[dict[str, Measured], dict[str, str]]:
    """Return the series once all can be used; and of those that decide nothing and did not start, why."""
    series, failed = {}, {}
    for name, one in started.items():
        try:
            one.wait_ready()
            one.driver.wait_ready()
        except (ProcessEnded, TimeoutError, DriverEnded) as error:
            if name in _CORE:
                raise
            failed[name] = str(error)
        else:
            series[name] = Measured(one.driver, one.worker or one.driver.pid)
    return series, failed


def _round(series: Mapping[str, Measured], number: int, extent: Extent, seed: int) -> list[tuple[str, Load]]:
    """Return what a round measures, in the order of this round."""
    draw = random.Random(f"{seed} {number}")  # noqa: S311 - no secret
    names = [name for name in series if name in _CORE or number % extent.others == 0]
    draw.shuffle(names)
    seconds = {name: extent.anew if name == "anew" else extent.seconds for name in names}
    return [(name, Load.steady(RATE, seconds[name], f"{name} {number}", seed + number)) for name in names]


def _measure(bed: Bed, measured: Measured, load: Load) -> tuple[Recording, float, float]:
    """Carry out a load; returns what was seen, the processor seconds it took, and how late the emulator was, in ms."""
    bed.emulator.reset_stats()
    before = cpu_seconds(family(measured.caller))
    recording = measured.driver.run(load)
    return recording, cpu_seconds(family(measured.caller)) - before, bed.totals()["lag_p90"] * 1000


def _report(found: Mapping[str, Found], absent: Mapping[str, str], bed: Bed, *, control: bool) -> Report:
    promises = (
        Promise("p50 over direct", _over(found, "direct", 0.5), P50_OVER_DIRECT),
        Promise("p90 over direct", _over(found, "direct", 0.9), P90_OVER_DIRECT),
        Promise("p50 over the floor", _over(found, "floor", 0.5), P50_OVER_FLOOR),
    )
    medians = {name: quantile(_flat(one.first), 0.5) for name, one in found.items()}
    others = [name for name in found if name != "genqueue"]
    late = statistics.median(lag for name in _CORE for lag in found[name].lags)
    return Report(
        "ttft",
        promises,
        {name: _figures(one) for name, one in found.items()},
        {f"p50 of {name} over genqueue's": round(medians[name] / medians["genqueue"], 3) for name in others},
        [f"{name} is not in this run: {why}" for name, why in absent.items()],
        f"the emulator was {late:.1f} ms late (p90)" if bed.void(late / 1000) else None,
        control=control,
    )


def _over(found: Mapping[str, Found], other: str, share: float) -> Estimate:
    """Return genqueue's quantile less another's, over the rounds that have both."""
    ours, theirs = found["genqueue"].recordings, found[other].recordings
    return difference_of([(ours[number].first, theirs[number].first) for number in ours.keys() & theirs.keys()], share)


def _figures(found: Found) -> dict[str, Any]:
    first = found.first
    gaps = [gap for recording in found.recordings.values() for gap in recording.gaps]
    return {
        "jobs": len(_flat(first)),
        "p50": interval(quantile_of(first, 0.5)),
        "p90": interval(quantile_of(first, 0.9)),
        "p99": interval(quantile_of(first, 0.99)),
        "gap_p50": round(quantile(gaps, 0.5), 2),
        "gap_p99": round(quantile(gaps, 0.99), 2),
        "cpu_ms": round(found.cpu / found.answered * 1000, 2),
        "sent_late_p99": round(quantile(_flat([one.late for one in found.recordings.values()]), 0.99), 2),
        "emulator_late_p90": round(statistics.median(found.lags), 2),
        "failed": len(found.failed),
    }


def _flat(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [value for one in rounds for value in one]


def _draw(axes: Any, found: Mapping[str, Found]) -> None:
    """Draw the share of jobs whose first token came within a time."""
    for name, one in found.items():
        values = sorted(_flat(one.first))
        shares = [(rank + 1) / len(values) for rank in range(len(values))]
        axes.plot(values, shares, label=name, linewidth=2.5 if name == "genqueue" else 1.2)
    axes.set_xscale("log")
    axes.set_xlabel("time from submit to first token, ms")
    axes.set_ylabel("share of jobs")
    axes.set_title(f"{RATE:g} jobs/s, the provider's first token after {PACE.ttft * 1000:g} ms")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="lower right")


class _Textbook(TextbookWorker):
    """A worker of the textbook set-up with threads enough."""

    def command(self, without: str | None) -> tuple[str, ...]:
        """Return the program and its arguments."""
        real = super().command(without)
        place = real.index("--concurrency") + 1
        return (*real[:place], str(THREADS), *real[place + 1 :])
