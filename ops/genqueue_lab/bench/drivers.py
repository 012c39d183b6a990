"""Driver processes, seen from the benchmark: started, told what to send, and asked what their readers saw."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from genqueue_lab.bench.load import PATIENCE, Recording
from genqueue_lab.processes import KILL_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue_lab.bench.load import Plan

#: Seconds a driver may take from start to ready.
START_PATIENCE: Final = 60.0

#: Characters of a driver's log that are told when it ends.
_TOLD: Final = 2000

_OPS: Final = Path(__file__).resolve().parents[2]
_TETHER: Final = _OPS / "genqueue_lab" / "tether.py"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a driver.

    Attributes:
        module: has `series`, see `driver`.
        config: what that is called with.
        python: of the environment in which it runs.
        environment: variables on top of this process's own.
    """

    module: str
    config: Mapping[str, Any]
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


class DriverEnded(RuntimeError):
    """A driver ended, or said nothing for too long; the message has the end of its log."""


class Driver:
    """One driver process; a context manager. Make it on the main thread: it is killed when that ends."""

    def __init__(self, recipe: Recipe) -> None:
        self._module = recipe.module
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed with it
        command = (recipe.python, "-P", "-m", "genqueue_lab.bench.driver", recipe.module)
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command],
            env={**os.environ, "PYTHONPATH": module_path(), **recipe.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            start_new_session=True,
        )
        self._tell(recipe.config)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def wait_ready(self) -> None:
        """Return once it can be told a plan; raises DriverEnded."""
        self._answer(START_PATIENCE)

    def run(self, plan: Plan) -> Recording:
        """Carry out a plan and return what was seen; raises DriverEnded."""
        self._tell({"offsets": plan.offsets, "prefix": plan.prefix})
        return Recording(**self._answer(max(plan.offsets, default=0.0) + 2 * PATIENCE))

    def close(self) -> None:
        """End it."""
        self._popen.kill()
        self._popen.wait(KILL_PATIENCE)
        for stream in (self._popen.stdin, self._popen.stdout, self._log):
            if stream is not None:
                stream.close()

    def _tell(self, told: Mapping[str, Any]) -> None:
        assert self._popen.stdin is not None  # noqa: S101 - for the type checker
        try:
            print(json.dumps(told), file=self._popen.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended("ended") from None

    def _answer(self, patience: float) -> Any:
        assert self._popen.stdout is not None  # noqa: S101 - for the type checker
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            if not selector.select(patience):
                raise self._ended(f"said nothing for {patience:g} s")
        if not (line := self._popen.stdout.readline()):
            raise self._ended("ended")
        return json.loads(line)

    def _ended(self, how: str) -> DriverEnded:
        self._log.seek(0)
        return DriverEnded(f"{self._module} {how}; the end of its log:\n{self._log.read()[-_TOLD:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def module_path() -> str:
    """Return the module path on which an environment that has nothing of ours finds what it needs."""
    return os.pathsep.join([str(_OPS), *filter(None, [os.environ.get("PYTHONPATH")])])
