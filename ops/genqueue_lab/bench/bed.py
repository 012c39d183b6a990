"""What a benchmark runs on: a server, an emulator, workers and drivers, each a process on the core where it belongs."""

from __future__ import annotations

import itertools
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from genqueue_lab.bench.cores import Cores, cpu_seconds, family, resident_bytes
from genqueue_lab.bench.drivers import Driver
from genqueue_lab.drill.crew import Worker
from genqueue_lab.emulator import NOBODY_ELSE, EmulatorProcess, Options, Pace
from genqueue_lab.processes import Process
from genqueue_lab.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from genqueue_lab.bench.drivers import Recipe
    from genqueue_lab.processes import Recipe as Program

#: Share of TPOT by which the emulator's chunks may be late (p90 of all of a run) before nothing can be concluded.
LATE: Final = 0.1

_HAMPERED: Final = (sys.executable, "-P", "-m", "genqueue_lab.bench.hampered")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a bed is built of.

    Attributes:
        pace: of the emulator's answers.
        server: directives of the data server.
        logs: directory that keeps the workers' logs; None keeps none.
    """

    pace: Pace = field(default_factory=Pace)
    server: Mapping[str, str] = field(default_factory=dict)
    logs: Path | None = None


class Bed:
    """Server, emulator, workers and drivers; a context manager that ends whatever it started.

    The emulator and the readers are on one core; the server, the workers, and whoever else calls the provider on
    another.

    Attributes:
        cores: which are which.
        server: the data server, which is the broker too, each series in a database of its own.
        emulator: the provider.
        pace: what it started with.
    """

    def __init__(self, layout: Layout) -> None:
        self.cores = Cores()
        self.server = RedisServer(config=dict(layout.server))
        self.emulator = EmulatorProcess(Options(pace=layout.pace))
        self.pace = layout.pace
        self._logs = layout.logs
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._logs is not None:
                self._logs.mkdir(parents=True, exist_ok=True)
            with self.cores.at_work():
                stack.enter_context(self.server)
            with self.cores.at_load():
                stack.enter_context(self.emulator)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def provider(self) -> dict[str, str]:
        """Return variables by which google-genai, and whoever trusts OpenSSL's defaults, finds the emulator."""
        return {
            "GEMINI_API_KEY": "emulator",
            "GOOGLE_GEMINI_BASE_URL": self.emulator.url,
            "SSL_CERT_FILE": str(self.emulator.ca_file),
        }

    def hire(self, without: str | None = None, **settings: object) -> Worker:
        """Start a worker of ours; whoever needs it waits for it.

        Args:
            without: the mechanism it goes without, see `hampered`; None for the real program.
            **settings: GENQUEUE_* variables, without the prefix.
        """
        name = f"w{next(self._numbers)}"
        own = {
            "DATA_URL": self.server.url(),
            "BROKER_URL": self.server.url(),
            "WORKER_NAME": name,
            "GEMINI_BASE_URL": self.emulator.url,
            "GEMINI_CA_FILE": self.emulator.ca_file,
            "GEMINI_API_KEY": "emulator",
            **settings,
        }
        environment = {**NOBODY_ELSE, **{f"GENQUEUE_{key}": str(value) for key, value in own.items()}}
        return self.employ(_Hired, name, environment, without)

    def employ(
        self, kind: type[Worker], name: str, environment: Mapping[str, str], without: str | None = None
    ) -> Worker:
        """Start a worker process of any kind on its core; whoever needs it waits for it."""
        log = None if self._logs is None else self._logs / f"{name}.log"
        with self.cores.at_work():
            worker = kind(name, {**environment, "PYTHONUNBUFFERED": "1"}, without, log)
        self._stack.callback(_end, worker)
        return worker

    def start(self, program: Program) -> Process:
        """Start any other worker on its core; whoever needs it waits for it, see `fleet.wait_ready`."""
        with self.cores.at_work():
            process = Process(program, lambda *_: None, lambda _: None)
        self._stack.callback(process.kill)
        return process

    def drive(self, recipe: Recipe, *, calls_provider: bool = False) -> Driver:
        """Start a driver, on the core of the readers or of those who call the provider; whoever needs it waits."""
        with self.cores.at_work() if calls_provider else self.cores.at_load():
            return self._stack.enter_context(Driver(recipe))

    def totals(self) -> dict[str, Any]:
        """Return what the emulator has counted since its start or the last reset."""
        totals: dict[str, Any] = self.emulator.stats(details=False)["totals"]
        return totals

    def void(self, late: float) -> bool:
        """Return whether so late an emulator (`lag_p90`, in seconds) leaves nothing to conclude."""
        return late > LATE * self.pace.tpot


class _Hired(Worker):
    """A worker of ours, or one that goes without a mechanism."""

    def command(self, without: str | None) -> tuple[str, ...]:
        """Return the program and its arguments, but for the name."""
        real = super().command(None)
        return real if without is None else (*_HAMPERED, without, *real[real.index("-A") :])


def _end(worker: Worker) -> None:
    if worker.alive:
        worker.kill()


def worker_cpu(worker: Worker) -> float:
    """Return the processor seconds that a worker and its children have used so far."""
    return cpu_seconds(family(worker.pid))


def worker_memory(worker: Worker) -> int:
    """Return the bytes that a worker and its children hold at the moment."""
    return resident_bytes(family(worker.pid))
