"""Worker processes of a drill: started, stopped, continued, killed, and asked what they logged."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genqueue_lab.processes import KILL_PATIENCE, Process, ProcessEnded, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds from start to ready on a machine that is busy with a drill.
START_PATIENCE: Final = 60.0

_READY: Final = re.compile(r"@\S+ ready\.$")

#: What a worker logs when its consumer fails, or when something of ours does that nobody thought of.
_TROUBLE: Final = re.compile(
    r"Traceback|Unrecoverable|CRITICAL|attempt\.crashed|consumer.*(?:error|failed)", re.IGNORECASE
)

_CELERY: Final = (sys.executable, "-P", "-m", "celery")
_DISARMED: Final = (sys.executable, "-P", "-m", "genqueue_lab.drill.disarmed")
_ARGUMENTS: Final = (
    "-A",
    "genqueue_worker.app",
    "--quiet",
    "worker",
    "-l",
    "INFO",
    "--without-mingle",
    "--without-gossip",
)


class Worker:
    """One worker process; of the real program, or of the one with a mechanism switched off.

    Args:
        name: short and unique in the drill.
        environment: its settings.
        without: the mechanism to switch off; None for the real program.
        log: file that takes what it prints; None keeps nothing.

    Attributes:
        trouble: lines it logged that tell of a failing consumer or a fault of ours.
        died: how it ended unasked; None while it did not.
    """

    def __init__(self, name: str, environment: Mapping[str, str], without: str | None, log: Path | None) -> None:
        self.name = name
        self.trouble: list[str] = []
        self.died: ProcessEnded | None = None
        self._log = log
        recipe = Recipe(name, (*self.command(without), "-n", f"{name}@%h"), _READY, environment)
        self._process = Process(recipe, self._note, self._bury)
        self.pid = self._process.pid

    def command(self, without: str | None) -> tuple[str, ...]:
        """Return the program and its arguments, but for the name."""
        return (*(_CELERY if without is None else (*_DISARMED, without)), *_ARGUMENTS)

    def wait_ready(self) -> None:
        """Return once it consumes; raises ProcessEnded or TimeoutError."""
        try:
            self._process.ready.result(START_PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"{self.name} was not ready within {START_PATIENCE:g} s") from None

    @property
    def consumes(self) -> bool:
        """Whether it has been ready and is there."""
        ready = self._process.ready
        return ready.done() and ready.exception() is None and self.alive

    @property
    def alive(self) -> bool:
        """Whether the process is there, stopped or not."""
        return not self._process.join(0)

    def family(self) -> set[int]:
        """Return its process id and those of its descendants, which run suspects; only its own without /proc."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = {self.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait for that."""
        self._process.kill()
        self._process.join(KILL_PATIENCE)

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.status

    def join(self, timeout: float) -> bool:
        """Wait for its end; returns whether it came."""
        return self._process.join(timeout)

    def _note(self, _process: Process, line: str) -> None:
        if _TROUBLE.search(line):
            self.trouble.append(line)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                print(line, file=file)

    def _bury(self, ended: ProcessEnded) -> None:
        self.died = ended
