"""`genqueue up`: every process of a local deployment in one terminal."""

from __future__ import annotations

import secrets
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from genqueue.settings import server_name
from genqueue_lab.emulator.options import Pace
from genqueue_lab.fleet import FLOWER_USER, Fleet, WorkerOptions, wait_ready
from genqueue_lab.interrupts import Interrupts
from genqueue_lab.processes import ProcessEnded
from genqueue_lab.servers import is_free
from genqueue_worker.cli import await_servers
from genqueue_worker.model_file import read_table
from genqueue_worker.routes import kinds_set, make_routes
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from genqueue_lab.processes import Process

#: Colours of the names in front of the lines; a worker's by its number.
_COLOURS = {"server": "red", "emulator": "magenta", "flower": "yellow", "genqueue": "bold"}
_WORKER_COLOURS = ("cyan", "green", "blue", "bright_cyan", "bright_green", "bright_blue")

#: Columns of those names.
_NAME_WIDTH = 9


@dataclass(frozen=True, slots=True)
class Plan:
    """What `up` was asked for.

    Attributes:
        workers: worker processes.
        slots: generations at once, of each.
        flower: port of Flower's page; 0 takes a free one, None leaves Flower out.
        server: a server's name or path; the embedded Valkey when None.
    """

    workers: int
    slots: int
    flower: int | None
    server: str | None


class LineLog:
    """Prints lines with the name of the process in front, from any thread; in colour on a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def line(self, process: Process, text: str) -> None:
        """Print a line of a process, unless it is empty."""
        if text:
            self._print(process.name, text)

    def say(self, text: str) -> None:
        """Print a line of our own."""
        self._print("genqueue", text)

    def block(self, lines: list[str]) -> None:
        """Print lines with nothing in front, so that they can be copied."""
        with suppress(OSError):
            self._console.print(Text("\n".join(["", *lines, ""]), style="bold"))

    def _print(self, name: str, text: str) -> None:
        _, _, number = name.partition("-")
        colour = _COLOURS.get(name) or _WORKER_COLOURS[int(number) % len(_WORKER_COLOURS)]
        with suppress(OSError):  # the terminal was closed; what it would have shown is no reason to stop before the end
            self._console.print(Text.assemble((f"{name:<{_NAME_WIDTH}} | ", colour), text))


@click.command()
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@click.option(
    "--slots", type=click.IntRange(1, 10_000), help="Generations at once per worker.  [default: GENQUEUE_SLOTS or 100]"
)
@click.option(
    "--port-flower", default=5555, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--no-flower", is_flag=True, help="Leave Flower out.")
@click.option("--server", help="A Redis or Valkey server to run instead of the embedded Valkey.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data here; a temporary directory when not given.",
)
def up(*, directory: Path | None, slots: int | None, port_flower: int, no_flower: bool, **given: Any) -> None:
    """Run a data server, workers and Flower until Ctrl-C, and a Gemini emulator when no provider is configured.

    With GENQUEUE_DATA_URL set that server is used and none is started.
    """
    settings = WorkerSettings.load()
    plan = Plan(slots=slots or settings.slots, flower=None if no_flower else port_flower, **given)
    interrupts = Interrupts()
    check(plan, settings)
    with ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="genqueue-up-")))
        status = run(plan, settings, directory, interrupts)
    interrupts.over()
    sys.exit(status)


def check(plan: Plan, settings: WorkerSettings) -> None:
    """See that what is not started here is there, before anything is.

    Raises:
        click.ClickException: Flower's port is taken, or the given broker does not answer.
        GenqueueError: the given data server does not answer, or has another deployment; a provider is configured by
            half, or the model table is wrong.
    """
    if kinds_set(settings):
        read_table(settings.models_file, make_routes(settings))
    if plan.flower and not is_free(plan.flower):
        advice = "choose another with --port-flower (0 takes a free one), or leave Flower out with --no-flower"
        raise click.ClickException(f"port {plan.flower} for Flower is taken: {advice}")
    if "data_url" in settings.model_fields_set:
        await_servers(settings)


def run(plan: Plan, settings: WorkerSettings, directory: Path, interrupts: Interrupts) -> int:
    """Run the fleet until Ctrl-C (returns 0) or until a process fails (returns 1)."""
    log = LineLog()
    fleet = Fleet(directory.resolve(), log.line)
    interrupts.kill_with(fleet.kill)
    status = 0
    try:
        log.block(start(fleet, plan, settings))
        raise fleet.died.result()
    except KeyboardInterrupt:
        log.say(f"stopping; running jobs may take {settings.drain_timeout:g} s more, Ctrl-C again ends them now")
    except (ProcessEnded, OSError) as error:
        status = 1
        for line in str(error).splitlines():
            log.say(line)
        log.say("stopping the rest")
    finally:
        interrupts.stopping()
        fleet.stop()
    log.say("stopped")
    return status


def start(fleet: Fleet, plan: Plan, settings: WorkerSettings) -> list[str]:
    """Start everything that is planned and return the lines that tell how to use it."""
    exports = start_server(fleet, plan, settings)
    if kinds_set(settings):
        # Beside Vertex AI, which serves the same models, an emulator would be asked in its place.
        provider = ", ".join(route.base_url for route in make_routes(settings).values())
    else:
        provider = f"the emulator at {fleet.emulate(Pace())}: no GEMINI_API_KEY is set"
    workers = [fleet.work(WorkerOptions(plan.slots, settings.drain_timeout)) for _ in range(plan.workers)]
    flower = [] if plan.flower is None else [start_flower(fleet, plan.flower)]
    for worker in workers:
        wait_ready(worker)
    return [
        f"genqueue is up: workers {plan.workers}, slots of each {plan.slots}, asking {provider}",
        "In another terminal:",
        *exports,
        '  genqueue submit --tail --lane high "Explain HTTP/3 multiplexing."',
        *flower,
        "Ctrl-C stops everything.",
    ]


def start_server(fleet: Fleet, plan: Plan, settings: WorkerSettings) -> list[str]:
    """Start the data server, unless one is set, and return the lines that let another terminal use it."""
    given = settings.model_fields_set
    if "data_url" in given:
        return [f"  # with GENQUEUE_DATA_URL set as it is here: {server_name(settings.data_url)}"]
    url = fleet.serve(plan.server)
    names = ["GENQUEUE_DATA_URL", *(["GENQUEUE_BROKER_URL"] if "broker_url" in given else [])]
    return [f"  export {name}={url}" for name in names]


def start_flower(fleet: Fleet, port: int) -> str:
    """Start Flower and return the line with its address and its password, which is new each time."""
    password = secrets.token_urlsafe(12)
    url = wait_ready(fleet.watch(port, password))[1]
    return f"Flower: {url} for user {FLOWER_USER} with password {password}"
