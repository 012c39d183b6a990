"""What a stream costs a worker: streams per second of its processor time, beside the textbook set-up.

Answers of 20 chunks as fast as the provider gives them, TLS throughout; task events are on in both. Jobs are queued at
once, and a round is over when all have ended. Rounds alternate, so that whatever else the machine does meets both.
Every stream is read afterwards: it must have each chunk, and end once.
"""

from __future__ import annotations

import random
import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.bench import chart
from genqueue_lab.bench.bed import Bed, Layout
from genqueue_lab.bench.report import Promise, Report, interval
from genqueue_lab.bench.throughput_sides import Cost, Genqueue, Side, Textbook, measure
from genqueue_lab.bench.verdict import estimate, ratio_of
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue_lab.bench.plan import Plan

#: Times as many streams per processor second as the textbook worker has.
TIMES: Final = 5.0

#: As fast as it goes.
PACE: Final = Pace(ttft=0, tpot=0, tokens=20)

#: What the control goes without: its chunks are parsed by google-genai, each is written by itself, and each request
#: opens a connection.
CONTROL: Final = "decoding,batches,connections"

#: Rounds, and in a quick run.
ROUNDS, QUICK_ROUNDS = 16, 6

#: Streams of a round, by side, and in a quick run.
STREAMS: Final = {"genqueue": 600, "textbook": 120}
QUICK_STREAMS: Final = {"genqueue": 200, "textbook": 40}

Round = dict[str, Cost]


def run(plan: Plan) -> Report:
    """Measure; the control goes without what makes the difference."""
    rounds, streams = (QUICK_ROUNDS, QUICK_STREAMS) if plan.quick or plan.control else (ROUNDS, STREAMS)
    draw = random.Random(plan.seed)  # noqa: S311 - no secret
    found: list[Round] = []
    with Bed(Layout(pace=PACE, logs=plan.logs)) as bed, ExitStack() as stack:
        sides: dict[str, Side] = {
            "genqueue": Genqueue(bed, stack, CONTROL if plan.control else None),
            "textbook": Textbook(bed, stack),
        }
        for name, side in sides.items():
            side.worker.wait_ready()
            measure(bed, side, f"before {name}", min(streams.values()))
        for number in range(rounds):
            order = draw.sample(list(sides), len(sides))
            found.append({name: measure(bed, sides[name], f"round {number}", streams[name]) for name in order})
            plan.say(f"round {number + 1}: " + ", ".join(f"{name} {_ms(one)}" for name, one in found[-1].items()))
    report = _report(found, control=plan.control)
    if plan.chart:
        _draw(found)
    return report


def _report(rounds: Sequence[Round], *, control: bool) -> Report:
    ratio = ratio_of([(one["textbook"].worker, one["genqueue"].worker) for one in rounds])
    promise = Promise(
        "streams per processor second of the worker, over textbook's", ratio, TIMES, "times", at_least=True
    )
    figures = {name: _figures([one[name] for one in rounds]) for name in sorted(rounds[0])}
    return Report("throughput", [promise], figures, {"genqueue/textbook": interval(ratio)}, control=control)


def _figures(costs: Sequence[Cost]) -> Mapping[str, Any]:
    rate = estimate(costs, lambda drawn: len(drawn) / sum(cost.worker for cost in drawn))
    return {
        "streams_per_cpu_second": interval(rate, 1),
        "worker_ms": statistics.median(cost.worker for cost in costs) * 1000,
        "server_ms": statistics.median(cost.server for cost in costs) * 1000,
        "streams_per_second": statistics.median(1 / cost.wall for cost in costs),
    }


def _ms(cost: Cost) -> str:
    return f"{cost.worker * 1000:.2f} ms a stream"


def _draw(rounds: Sequence[Round]) -> None:
    """Draw every round's streams per processor second, by side."""

    def draw(axes: Any) -> None:
        for place, name in enumerate(sorted(rounds[0])):
            rates = [1 / one[name].worker for one in rounds]
            axes.bar(place, statistics.median(rates), width=0.5, label=name)
            axes.plot([place] * len(rates), rates, "k.", alpha=0.4)
        axes.set_xticks(range(len(rounds[0])), sorted(rounds[0]))
        axes.set_ylabel("streams of 20 chunks per second of the worker's processor time")
        axes.set_title("Throughput: one worker process, no pacing; dots are rounds")

    chart.save("throughput", draw)
