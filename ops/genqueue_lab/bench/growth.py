"""How a long queue feels: submit, claim and pickup of a high job with a million jobs queued, beside a thousand.

Two servers at once, with a worker of the high lane each, measured in turn within every round: whatever else this
machine does meets both. The queue is filled by `submit_many` and keeps its length: what is submitted is claimed again.
"""

from __future__ import annotations

import random
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue.lanes import queues_of
from genqueue_lab.bench import chart
from genqueue_lab.bench.backlog import Backlog
from genqueue_lab.bench.bed import Bed, Layout
from genqueue_lab.bench.report import Promise, Report, interval
from genqueue_lab.bench.verdict import Estimate, estimate, median_of, quantile_of
from genqueue_lab.drill.crew import Worker
from genqueue_lab.emulator import NOBODY_ELSE, Pace
from genqueue_lab.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from genqueue_lab.bench.plan import Plan

#: Queued jobs: few, many, and many in a quick run.
FEW, MANY, QUICK_MANY = 1000, 1_000_000, 50_000

#: Times as long as with few that anything may take with many.
LIMIT: Final = 1.5

#: Rounds, and in a quick run; and of the control, whose look-ups take their time.
ROUNDS, QUICK_ROUNDS, CONTROL_ROUNDS = 40, 12, 4

#: Times that each thing is measured in a round.
SAMPLES: Final = {"submit": 50, "claim": 50, "pickup": 10}
CONTROL_SAMPLES: Final = {"submit": 3, "claim": 3, "pickup": 3}

#: Nobody waits long for the answers of the high jobs. The file is not rewritten while two servers are compared.
_PACE: Final = Pace(ttft=0.005, tpot=0.001, tokens=4)
_SERVER: Final = {"auto-aof-rewrite-percentage": "0"}


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds that each sample of one round took: by what was measured, with few jobs queued and with many."""

    few: Mapping[str, Sequence[float]]
    many: Mapping[str, Sequence[float]]


def run(plan: Plan) -> Report:
    """Measure; before it submits, the control looks through what is queued, one key after the other."""
    with ExitStack() as stack:
        bed = stack.enter_context(Bed(Layout(pace=_PACE, server=_SERVER, logs=plan.logs)))
        with bed.cores.at_work():
            larger = stack.enter_context(RedisServer(config=_SERVER))
        size = QUICK_MANY if plan.quick or plan.control else MANY
        few = stack.enter_context(Backlog(bed.server.url(), FEW))
        many = stack.enter_context(Backlog(larger.url(), size))
        for backlog in (few, many):
            backlog.fill(plan.say)
        for worker in [_hire(bed, server) for server in (bed.server, larger)]:
            worker.wait_ready()
        with bed.cores.at_load():
            rounds = _rounds(few, many, plan)
    if plan.chart:
        chart.save("growth", lambda axes: _draw(axes, rounds, size))
    return _report(rounds, few, many, plan)


class _HighWorker(Worker):
    """A worker that takes nothing but high jobs, and sweeps all lanes as any does."""

    def command(self, without: str | None) -> tuple[str, ...]:
        """Return the program and its arguments, but for the name."""
        return (*super().command(without), "-Q", ",".join(queues_of("high")))


def _hire(bed: Bed, server: RedisServer) -> Worker:
    settings = {
        "DATA_URL": server.url(),
        "BROKER_URL": server.url(),
        "WORKER_NAME": f"high{server.port}",
        "GEMINI_BASE_URL": bed.emulator.url,
        "GEMINI_CA_FILE": bed.emulator.ca_file,
        "GEMINI_API_KEY": "emulator",
    }
    environment = {**NOBODY_ELSE, **{f"GENQUEUE_{name}": str(value) for name, value in settings.items()}}
    return bed.employ(_HighWorker, f"high{server.port}", environment)


def _rounds(few: Backlog, many: Backlog, plan: Plan) -> list[Round]:
    draw = random.Random(plan.seed)  # noqa: S311 - no secret
    samples = CONTROL_SAMPLES if plan.control else SAMPLES
    count = QUICK_ROUNDS if plan.quick else ROUNDS
    rounds = []
    _round(few, many, dict.fromkeys(SAMPLES, 2), draw, control=False)  # connects
    for number in range(CONTROL_ROUNDS if plan.control else count):
        rounds.append(_round(few, many, samples, draw, control=plan.control))
        ratios = (f"{name} x{_ratio(rounds[-1:], name):.2f}" for name in SAMPLES)
        plan.say(f"round {number + 1}: " + ", ".join(ratios))
    return rounds


def _round(few: Backlog, many: Backlog, samples: Mapping[str, int], draw: random.Random, *, control: bool) -> Round:
    found: dict[Backlog, dict[str, list[float]]] = {side: {name: [] for name in samples} for side in (few, many)}
    ways: Mapping[str, Callable[[Backlog], float]] = {
        "submit": lambda side: side.submit(by_scanning=control),
        "claim": lambda side: side.claim(),
        "pickup": lambda side: side.pickup(),
    }
    for name, count in samples.items():
        for _ in range(count):
            for side in draw.sample((few, many), 2):
                found[side][name].append(ways[name](side))
    return Round(found[few], found[many])


def _ratio(rounds: Sequence[Round], name: str) -> float:
    """Return the median with many jobs queued over that with few."""
    few = statistics.median(seconds for one in rounds for seconds in one.few[name])
    return statistics.median(seconds for one in rounds for seconds in one.many[name]) / few


def _ratio_of(rounds: Sequence[Round], name: str) -> Estimate:
    return estimate(rounds, lambda drawn: _ratio(drawn, name))


def _report(rounds: Sequence[Round], few: Backlog, many: Backlog, plan: Plan) -> Report:
    return Report(
        bench="growth",
        promises=[
            Promise(f"{name} with {many.size:,} jobs queued, over {FEW:,}", _ratio_of(rounds, name), LIMIT, "times")
            for name in SAMPLES
        ],
        figures={
            f"{few.size:,} queued": _figures([one.few for one in rounds], few),
            f"{many.size:,} queued": _figures([one.many for one in rounds], many),
        },
        notes=[f"filled with {many.size:,} jobs in {many.filling:.0f} s ({many.size / many.filling:,.0f} jobs/s)"],
        control=plan.control,
    )


def _figures(rounds: Sequence[Mapping[str, Sequence[float]]], backlog: Backlog) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in SAMPLES:
        values = [[seconds * 1000 for seconds in one[name]] for one in rounds]
        figures[f"{name} p50 ms"] = interval(median_of(values))
        figures[f"{name} p99 ms"] = interval(quantile_of(values, 0.99))
    return {**figures, "bytes a job": round(backlog.bytes_a_job)}


def _draw(axes: Any, rounds: Sequence[Round], size: int) -> None:
    for place, (label, side) in enumerate({f"{FEW:,} queued": "few", f"{size:,} queued": "many"}.items()):
        values = [[seconds * 1000 for one in rounds for seconds in getattr(one, side)[name]] for name in SAMPLES]
        heights = [statistics.median(each) for each in values]
        tails = [sorted(each)[int(0.99 * (len(each) - 1))] for each in values]
        bars = axes.bar([index + place * 0.4 for index in range(len(values))], heights, 0.38, label=label)
        axes.bar_label(bars, fmt="%.2f")
        axes.plot([index + place * 0.4 for index in range(len(values))], tails, "_", markersize=18, color="black")
    axes.set_xticks([index + 0.2 for index in range(len(SAMPLES))], list(SAMPLES))
    axes.set_ylabel("milliseconds: median (bar), p99 (line)")
    axes.set_title("The same with few and with many jobs queued")
    axes.legend()
