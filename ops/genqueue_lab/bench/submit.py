"""Publishing in bulk: `submit_many` beside a loop of Celery's `apply_async`, and beside a loop of our own `submit`.

One producer on one core, the server on the other. Every round has all three series in an order of its own, with equal
payloads: texts of a paragraph. What a job costs is counted in time, and in processor time of producer and server.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import redis
from celery import Celery

from genqueue import Client
from genqueue_lab.bench import chart
from genqueue_lab.bench.cores import Cores
from genqueue_lab.bench.report import Promise, Report, interval
from genqueue_lab.bench.verdict import median_of, ratio_of
from genqueue_lab.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from genqueue_lab.bench.plan import Plan

#: Times as many jobs a second, and as few processor seconds of the producer for each, as a loop of apply_async.
TIMES: Final = 5.0

#: Rounds, and in a quick run.
ROUNDS, QUICK_ROUNDS = 40, 12

#: Jobs of a round: of submit_many, and of each of the loops.
MANY, FEW = 2000, 400

MODEL: Final = "gemini-2.5-flash"
_PARAGRAPH: Final = "The ship left the harbour at dawn, and nobody on the quay knew when it would be back. " * 5

_SERIES: Final = ("apply_async", "submit", "submit_many")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job of one series cost in one round, in seconds.

    Attributes:
        wall: of time.
        producer: of the producer's processor.
        server: of the server's processor.
    """

    wall: float
    producer: float
    server: float


class Stage:
    """The producer of every series, in this process, each with a database of its own on one server."""

    def __init__(self, server: RedisServer, stack: ExitStack) -> None:
        self._server = stack.enter_context(redis.Redis.from_url(server.url()))
        self._task = _task(server.url(0))
        self._single = stack.enter_context(_client(server.url(1)))
        self._bulk = stack.enter_context(_client(server.url(2)))
        self._ways: Mapping[str, Callable[[list[dict[str, str]]], object]] = {
            "apply_async": self._celery,
            "submit": self._submit,
            "submit_many": self._submit_many,
        }

    def measure(self, series: str, prefix: str) -> Cost:
        """Publish the jobs of one round."""
        items = [
            {"contents": f"{prefix} {number}: {_PARAGRAPH}", "model": MODEL}
            for number in range(MANY if series == "submit_many" else FEW)
        ]
        gc.collect()
        server, producer, wall = self._server_seconds(), time.process_time(), time.perf_counter()
        self._ways[series](items)
        wall, producer = time.perf_counter() - wall, time.process_time() - producer
        server = self._server_seconds() - server
        return Cost(wall / len(items), producer / len(items), server / len(items))

    def _celery(self, items: list[dict[str, str]]) -> None:
        for item in items:
            self._task.apply_async(kwargs=item)

    def _submit(self, items: list[dict[str, str]]) -> None:
        for item in items:
            self._single.submit(item["contents"], model=item["model"])

    def _submit_many(self, items: list[dict[str, str]]) -> None:
        refused = [job for job in self._bulk.submit_many(items) if isinstance(job, Exception)]
        if refused:
            raise RuntimeError(f"{len(refused)} of {len(items)} jobs were not accepted: {refused[0]}")

    def _server_seconds(self) -> float:
        used: Any = self._server.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])


def run(plan: Plan) -> Report:
    """Measure; the control publishes each message of a batch by itself, as a loop would."""
    rounds: list[dict[str, Cost]] = []
    draw = random.Random(plan.seed)  # noqa: S311 - no secret
    cores = Cores()
    with ExitStack() as stack:
        with cores.at_work():
            server = stack.enter_context(RedisServer())
        stack.enter_context(cores.at_load())
        stack.enter_context(_one_by_one() if plan.control else nullcontext())
        stage = Stage(server, stack)
        for series in _SERIES:  # connects
            stage.measure(series, "before")
        for number in range(QUICK_ROUNDS if plan.quick else ROUNDS):
            order = draw.sample(_SERIES, len(_SERIES))
            rounds.append({series: stage.measure(series, f"round {number}") for series in order})
            plan.say(f"round {number + 1}: " + _said(rounds[-1]))
    if plan.chart:
        chart.save("submit", lambda axes: _draw(axes, rounds))
    return _report(rounds, plan)


def _task(url: str) -> Any:
    """Return a task as Celery's users declare it, for an app without results."""
    app = Celery("bench", broker=url, set_as_current=False)
    app.conf.update(task_ignore_result=True)

    @app.task(name="bench.generate")  # type: ignore[untyped-decorator]
    def generate(contents: str, model: str) -> None:
        """Be run by nobody."""

    return generate


def _client(url: str) -> Client:
    return Client(data_url=url, broker_url=url)


def _one_by_one() -> ExitStack:
    """Publish every message with a round trip of its own, through Celery."""
    stack = ExitStack()
    stack.enter_context(mock.patch("genqueue.dispatch.is_copyable", return_value=False))
    stack.enter_context(mock.patch("genqueue.dispatch._batch", return_value=nullcontext()))
    return stack


def _report(rounds: Sequence[Mapping[str, Cost]], plan: Plan) -> Report:
    walls = ratio_of([(one["apply_async"].wall, one["submit_many"].wall) for one in rounds])
    processors = ratio_of([(one["apply_async"].producer, one["submit_many"].producer) for one in rounds])
    return Report(
        bench="submit",
        promises=(
            Promise("jobs per second of submit_many, in those of apply_async", walls, TIMES, "times", at_least=True),
            Promise("jobs per processor second of the producer", processors, TIMES, "times", at_least=True),
        ),
        figures={series: _figures([one[series] for one in rounds]) for series in _SERIES},
        ratios={
            "submit_many over submit, jobs per second": interval(
                ratio_of([(one["submit"].wall, one["submit_many"].wall) for one in rounds])
            ),
        },
        control=plan.control,
    )


def _figures(costs: Sequence[Cost]) -> dict[str, Any]:
    return {
        "jobs/s": round(1 / statistics.median(cost.wall for cost in costs)),
        "us": interval(median_of([[cost.wall * 1e6] for cost in costs]), 1),
        "producer us": interval(median_of([[cost.producer * 1e6] for cost in costs]), 1),
        "server us": interval(median_of([[cost.server * 1e6] for cost in costs]), 1),
    }


def _said(one: Mapping[str, Cost]) -> str:
    return ", ".join(f"{series} {1 / one[series].wall:,.0f}/s" for series in _SERIES)


def _draw(axes: Any, rounds: Sequence[Mapping[str, Cost]]) -> None:
    parts = {"time": "wall", "producer's processor": "producer", "server's processor": "server"}
    for place, (label, name) in enumerate(parts.items()):
        heights = [statistics.median(getattr(one[series], name) for one in rounds) * 1e6 for series in _SERIES]
        bars = axes.bar([index + place * 0.27 for index in range(len(_SERIES))], heights, 0.25, label=label)
        axes.bar_label(bars, fmt="%.0f")
    axes.set_xticks([index + 0.27 for index in range(len(_SERIES))], _SERIES)
    axes.set_ylabel("microseconds a job")
    axes.set_title("What it takes to queue a job: one producer, one server")
    axes.legend()
