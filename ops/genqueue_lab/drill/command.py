"""`genqueue drill`: failures on purpose, each with a verdict."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from genqueue_lab.bench.verdict import STATUS
from genqueue_lab.drill.plan import Plan
from genqueue_lab.interrupts import Interrupts
from genqueue_lab.processes import ProcessEnded

if TYPE_CHECKING:
    from genqueue_lab.drill.report import Report

#: Exit status of a drill that was interrupted.
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill.

    Attributes:
        module: has `run`, which takes a Plan and returns a Report.
        help: what it does, in a sentence.
        control: what its control goes without.
    """

    module: str
    help: str
    control: str

    def run(self, plan: Plan) -> Report:
        """Run it."""
        found: Report = importlib.import_module(self.module).run(plan)
        return found


_HERE: Final = "genqueue_lab.drill"

DRILLS: Final = {
    "kill": Drill(f"{_HERE}.kill", "Kill a random worker every 3 s under load.", "No worker sweeps the ledger."),
    "drain": Drill(
        f"{_HERE}.drain",
        "Replace one worker of two after the other under load.",
        "What a worker breaks off at its end is not handed back.",
    ),
    "pause": Drill(
        f"{_HERE}.pause",
        "Stop a worker past its leases, and across the life of its streams, and continue it.",
        "Entries are appended without token and numbers.",
    ),
    "cut": Drill(
        f"{_HERE}.cut",
        "Lose commands and replies at random between everybody and the server.",
        "Entries are appended without token and numbers.",
    ),
    "restart": Drill(
        f"{_HERE}.restart",
        "Take the server away for a while, and kill it.",
        "What cannot be written or settled at once is given up.",
    ),
    "partition": Drill(
        f"{_HERE}.partition",
        "Cut a worker off from the server past its leases, and connect it again.",
        "Entries are appended without token and numbers.",
    ),
    "poison": Drill(
        f"{_HERE}.poison",
        "Kill every process that runs one certain job.",
        "Suspects do not run alone.",
    ),
    "faults": Drill(f"{_HERE}.faults", "Let the provider fail in every way there is.", "Nothing is tried again."),
    "random": Drill(
        f"{_HERE}.rounds",
        "Rounds of one random failure each, beside textbook Celery under the same.",
        "No worker sweeps the ledger.",
    ),
}


@click.group()
def drill() -> None:
    """Cause a failure under load, audit what became of every job, and say whether the promise held.

    Each drill starts a server, an emulator and workers of its own. It exits with 0 when its claims hold, 1 when one
    does not, and 2 when this machine was too slow to make the failure happen. With --control it runs without the
    mechanism that its claims rest on, and has to fail.
    """


def _log_to(logs: Path | None) -> None:
    """Keep what the clients of a drill log with the workers' logs: it tells of the failures that are caused here."""
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
    handler = logging.NullHandler() if logs is None else logging.FileHandler(logs / "drill.log")
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(asctime)s %(name)s %(message)s")


def _add(name: str, drilled: Drill) -> None:
    @drill.command(name, help=drilled.help, short_help=drilled.help)
    @click.option("--quick", is_flag=True, help="A small one: under a minute.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object in one line.")
    @click.option("--control", is_flag=True, help=drilled.control)
    @click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
    @click.option(
        "--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep the logs of the workers in a directory."
    )
    def command(*, quick: bool, as_json: bool, control: bool, seed: int, logs: Path | None) -> None:
        interrupts = Interrupts()
        _log_to(logs)
        plan = Plan(lambda line: click.echo(line, err=True), quick=quick, control=control, seed=seed, logs=logs)
        try:
            found = drilled.run(plan)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except (ProcessEnded, TimeoutError, RuntimeError) as error:  # a process of the stage did not start
            click.echo(f"inconclusive: {error}", err=True)
            status = STATUS["inconclusive"]
        else:
            click.echo(json.dumps(found.as_json()) if as_json else found.text())
            status = STATUS[found.verdict]
        interrupts.over()
        sys.exit(status)


for _name, _drill in DRILLS.items():
    _add(_name, _drill)
