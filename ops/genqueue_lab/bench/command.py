"""`genqueue bench`: benchmarks that end with a verdict."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from genqueue_lab.bench import tails as tails_bench
from genqueue_lab.bench.drivers import DriverEnded
from genqueue_lab.bench.plan import Plan
from genqueue_lab.bench.sizes import sizes
from genqueue_lab.bench.verdict import STATUS
from genqueue_lab.interrupts import Interrupts
from genqueue_lab.processes import ProcessEnded

if TYPE_CHECKING:
    from genqueue_lab.bench.report import Report

#: Exit status of a benchmark that was interrupted.
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark.

    Attributes:
        module: has `run`, which takes a Plan and returns a Report.
        help: what it measures, in a sentence.
        control: what its control goes without.
    """

    module: str
    help: str
    control: str

    def run(self, plan: Plan) -> Report:
        """Run it."""
        found: Report = importlib.import_module(self.module).run(plan)
        return found


_HERE: Final = "genqueue_lab.bench"

BENCHES: Final = {
    "transports": Bench(
        f"{_HERE}.transports",
        "Measure what a stream costs the transport to the provider, beside httpcore's HTTP/2.",
        "Both sides are httpcore's.",
    ),
    "ttft": Bench(
        f"{_HERE}.ttft",
        "Measure the time to the first token, beside calling the provider directly and beside other queues.",
        "Every request to the provider opens a connection of its own.",
    ),
    "throughput": Bench(
        f"{_HERE}.throughput",
        "Measure how many streams a worker carries per second of its processor time, beside the textbook set-up.",
        "google-genai parses each chunk, each is written by itself, and each request opens a connection of its own.",
    ),
    "concurrency": Bench(
        f"{_HERE}.concurrency",
        "Measure how many deltas a second one worker process carries, beside a client without a queue.",
        "Every entry of a stream is written by itself.",
    ),
    "submit": Bench(
        f"{_HERE}.submit",
        "Measure how many jobs a second submit_many queues, beside a loop of Celery's apply_async.",
        "Every message to the broker has a round trip of its own, through Celery.",
    ),
    "growth": Bench(
        f"{_HERE}.growth",
        "Measure submit, claim and the pickup of a high job with a million jobs queued, beside a thousand.",
        "Before a job is submitted, those that are queued are looked through one by one.",
    ),
}


@click.group()
def bench() -> None:
    """Measure on this machine whether a promise holds.

    Each benchmark exits with 0 when it holds, 1 when it does not, and 2 when this machine was too unsteady to tell.
    With --control it runs without the mechanism that the promise rests on, and has to fail.
    """


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: under a minute.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--control", is_flag=True, help="Read as one would first think of: one blocking XREAD over all streams.")
@click.pass_context
def tails(ctx: click.Context, *, quick: bool, as_json: bool, control: bool) -> None:
    """Measure what a tail adds to a round trip to the server, at 10 and at 1,000 live tails in one process."""
    report = tails_bench.measure(rounds=6 if quick else 20, control=control)
    click.echo(json.dumps(asdict(report)) if as_json else report.text())
    ctx.exit(STATUS[report.verdict])


bench.add_command(sizes)


def _add(name: str, measured: Bench) -> None:
    @bench.command(name, help=measured.help, short_help=measured.help)
    @click.option("--quick", is_flag=True, help="Fewer rounds: under a minute.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object in one line.")
    @click.option("--control", is_flag=True, help=measured.control)
    @click.option("--chart", is_flag=True, help="Draw the chart in the quick form too.")
    @click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
    @click.option(
        "--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep the logs of the workers in a directory."
    )
    def command(*, as_json: bool, quick: bool, control: bool, chart: bool, seed: int, logs: Path | None) -> None:
        interrupts = Interrupts()
        drawn = chart or not (quick or control)
        plan = Plan(
            lambda line: click.echo(line, err=True), quick=quick, control=control, chart=drawn, seed=seed, logs=logs
        )
        try:
            found = measured.run(plan)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except (ProcessEnded, DriverEnded, TimeoutError, RuntimeError) as error:  # a process did not start, or ended
            click.echo(f"inconclusive: {error}", err=True)
            status = STATUS["inconclusive"]
        else:
            click.echo(json.dumps(found.as_json()) if as_json else found.text())
            status = STATUS[found.verdict]
        interrupts.over()
        sys.exit(status)


for _name, _bench in BENCHES.items():
    _add(_name, _bench)
