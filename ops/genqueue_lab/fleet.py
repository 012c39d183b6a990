"""A whole deployment on this machine: data server, emulator, workers, Flower."""

from __future__ import annotations

import re
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from genqueue.errors import MissingExtra
from genqueue_lab.emulator.options import NOBODY_ELSE
from genqueue_lab.processes import Process, ProcessEnded, Recipe
from genqueue_lab.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genqueue_lab.emulator.options import Pace

#: Seconds a process may take from start to ready.
START_PATIENCE = 30.0

#: Seconds a process other than a worker may take from SIGTERM to its end.
STOP_PATIENCE = 5.0

#: User of Flower's page.
FLOWER_USER = "genqueue"

_SERVER_READY = re.compile(r"Ready to accept connections")
_EMULATOR_READY = re.compile(r"Gemini emulator on (\S+) .*CA certificate (.+)$")
_WORKER_READY = re.compile(r"@\S+ ready\.$")
_FLOWER_READY = re.compile(r"Visit me at (\S+)")

#: `-P`: a file of the current directory must not stand in for a module.
_MODULE = (sys.executable, "-P", "-m")
_CELERY = (*_MODULE, "celery", "-A", "genqueue_worker.app")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker of the fleet works.

    Attributes:
        slots: generations at once.
        drain: seconds running generations may go on after SIGTERM.
    """

    slots: int
    drain: float


class Fleet:
    """The processes of one deployment, in the order they were started.

    What one needs to know of those before it reaches it as environment variables. Methods that return a Process do
    not wait for it: see `wait_ready`.

    Args:
        directory: where the server's append-only file and the emulator's certificates go.
        on_line: called with the process and each line a process prints, on a thread of that process.

    Attributes:
        environment: variables handed to processes started from now on.
        died: holds the first process that ended unasked, as ProcessEnded.
        workers: workers started so far.
    """

    def __init__(self, directory: Path, on_line: Callable[[Process, str], object]) -> None:
        self.directory = directory
        self.environment = {"PYTHONUNBUFFERED": "1"}
        self.died: Future[ProcessEnded] = Future()
        self.died.set_running_or_notify_cancel()
        self.workers: list[Process] = []
        self._others: list[Process] = []
        self._on_line = on_line
        self._worker_patience = 0.0
        self._lock = threading.Lock()

    def serve(self, binary: str | None) -> str:
        """Start a data server, the embedded Valkey when `binary` is None, and return its URL once it answers.

        Raises MissingExtra when there is no embedded Valkey here.
        """
        directory = self.directory / "server"
        directory.mkdir(parents=True, exist_ok=True)
        try:
            server = RedisServer(binary, directory=directory)
        except ModuleNotFoundError as error:
            raise MissingExtra("lab", str(error.name)) from error
        directives = [part for name, value in server.config.items() for part in (f"--{name}", value)]
        command = (server.binary, "--port", str(server.port), "--dir", str(directory), *directives)
        wait_ready(self._start(Recipe("server", command, _SERVER_READY), self._others))
        self.environment |= {"GENQUEUE_DATA_URL": server.url(), "GENQUEUE_BROKER_URL": server.url()}
        return server.url()

    def emulate(self, pace: Pace) -> str:
        """Start a Gemini emulator, let workers ask it, and return its URL once it answers."""
        given = {"port": 0, "directory": self.directory / "emulator", **msgspec.structs.asdict(pace)}
        options = (f"--{name.replace('_', '-')}={value}" for name, value in given.items())
        command = (*_MODULE, "genqueue_lab.emulator", *options)
        process = self._start(Recipe("emulator", command, _EMULATOR_READY, self.environment), self._others)
        url, ca_file = wait_ready(process).groups()
        self.environment |= {
            **NOBODY_ELSE,
            "GENQUEUE_GEMINI_BASE_URL": url,
            "GENQUEUE_GEMINI_CA_FILE": ca_file,
            "GENQUEUE_GEMINI_API_KEY": "emulator",
        }
        return str(url)

    def work(self, options: WorkerOptions) -> Process:
        """Start one more worker."""
        name = f"worker-{len(self.workers) + 1}"
        self._worker_patience = options.drain + STOP_PATIENCE
        environment = {
            **self.environment,
            "GENQUEUE_WORKER_NAME": name,
            "GENQUEUE_SLOTS": str(options.slots),
            "GENQUEUE_DRAIN_TIMEOUT": str(options.drain),
        }
        # This app uses neither mingling nor gossip, and looking for neighbours takes a second.
        arguments = ("-l", "INFO", "-n", f"{name}@%h", "--without-mingle", "--without-gossip")
        command = (*_CELERY, "--quiet", "worker", *arguments)
        return self._start(Recipe(name, command, _WORKER_READY, environment), self.workers)

    def watch(self, port: int, password: str) -> Process:
        """Start Flower on the loopback interface for the user `genqueue`; its `ready` match holds the URL."""
        environment = {**self.environment, "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"}
        command = (*_CELERY, "flower", "--address=127.0.0.1", f"--port={port}")
        return self._start(Recipe("flower", command, _FLOWER_READY, environment), self._others)

    def stop(self) -> None:
        """End every process: the workers first, together, then the others, the youngest first; kill who takes long."""
        for worker in self.workers:
            worker.terminate()
        give_up = time.monotonic() + self._worker_patience
        for worker in self.workers:
            if not worker.join(max(0.0, give_up - time.monotonic())):
                worker.kill()
        for process in reversed(self._others):
            process.terminate()
            if not process.join(STOP_PATIENCE):
                process.kill()
        self._join()

    def kill(self) -> None:
        """Send SIGKILL to every process that still runs."""
        for process in (*self.workers, *self._others):
            process.kill()

    def _join(self) -> None:
        for process in (*self.workers, *self._others):
            process.join()

    def _start(self, recipe: Recipe, group: list[Process]) -> Process:
        process = Process(recipe, self._on_line, self._note_death)
        group.append(process)
        return process

    def _note_death(self, ended: ProcessEnded) -> None:
        # Two may end at the same moment, each on its own thread.
        with self._lock:
            if not self.died.done():
                self.died.set_result(ended)


def wait_ready(process: Process) -> re.Match[str]:
    """Wait until a process can be used and return the line that said so; raises ProcessEnded or TimeoutError."""
    try:
        return process.ready.result(START_PATIENCE)
    except TimeoutError:
        raise TimeoutError(f"{process.name} was not ready within {START_PATIENCE:g} s") from None
