"""Child processes: started, known to be ready by a line they print, stopped, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

#: Lines of output kept to tell why a process ended.
KEPT_LINES = 15

#: Seconds to wait for a process that was sent SIGKILL.
KILL_PATIENCE = 5.0

_TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a process.

    Attributes:
        name: short name, for people.
        command: the program and its arguments.
        ready: matches the line it prints once it can be used.
        environment: variables on top of this process's own.
    """

    name: str
    command: tuple[str, ...]
    ready: re.Pattern[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class ProcessEnded(RuntimeError):
    """A process ended that should have gone on.

    Attributes:
        name: its name.
        status: its exit status; negative for the signal that killed it.
        lines: the last lines it printed.
    """

    def __init__(self, name: str, status: int, lines: tuple[str, ...]) -> None:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        super().__init__("\n".join([f"{name} {how}; its last lines:", *(f"  {line}" for line in lines)]))
        self.name = name
        self.status = status
        self.lines = lines


class Process:
    """A running child process in a session of its own, so that Ctrl-C reaches the parent alone.

    Make it on the main thread: it is killed when the thread that made it ends.

    Args:
        recipe: how to start it.
        on_line: called with the process and every line it prints, on a thread of its own.
        on_death: called with a ProcessEnded, on the same thread, when it ends unasked.

    Attributes:
        ready: holds the match of the recipe's `ready` once it came, or ProcessEnded.
    """

    def __init__(
        self,
        recipe: Recipe,
        on_line: Callable[[Process, str], object],
        on_death: Callable[[ProcessEnded], object],
    ) -> None:
        self.name = recipe.name
        self.ready: Future[re.Match[str]] = Future()
        # From here on nobody can cancel it, so setting it never fails.
        self.ready.set_running_or_notify_cancel()
        self._recipe = recipe
        self._on_line = on_line
        self._on_death = on_death
        self._asked = False
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *recipe.command],
            env={**os.environ, **recipe.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._follow, name=f"output-{recipe.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for the signal that killed it; None while it runs."""
        return self._popen.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        self._asked = True
        self._popen.terminate()

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self._asked = True
        self._popen.kill()

    def join(self, timeout: float = KILL_PATIENCE) -> bool:
        """Wait until it has ended and all it printed has been passed on; returns whether that is so."""
        self._reader.join(timeout)
        return not self._reader.is_alive()

    def _follow(self) -> None:
        with self._popen:
            for line in self._popen.stdout or ():
                self._take(line.rstrip())
        ended = ProcessEnded(self.name, self._popen.returncode, tuple(self._last))
        if not self.ready.done():
            self.ready.set_exception(ended)
        if not self._asked:
            self._on_death(ended)

    def _take(self, line: str) -> None:
        self._last.append(line)
        self._on_line(self, line)
        if not self.ready.done() and (found := self._recipe.ready.search(line)):
            self.ready.set_result(found)
