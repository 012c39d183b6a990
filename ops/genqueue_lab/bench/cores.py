"""Where processes run, and what of a processor they use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Ticks of a second, in which the kernel counts processor time.
_TICKS: Final = os.sysconf("SC_CLK_TCK")

#: Places of a parent's id, and of user and system time, in /proc/PID/stat behind the name.
_PARENT, _USER, _SYSTEM = 1, 11, 12


class Cores:
    """Two cores: one for load and emulator, one for what is measured; or all of them where there are fewer than two.

    Attributes:
        apart: whether there are two.
        load: cores of load and emulator.
        work: cores of whoever calls the provider, and of the server.
    """

    def __init__(self) -> None:
        there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.apart = len(there) >= 2
        self.load = frozenset(there[:1] if self.apart else there)
        self.work = frozenset(there[1:2] if self.apart else there)

    @contextlib.contextmanager
    def at_load(self) -> Iterator[None]:
        """Start processes in this block on the core of load and emulator."""
        with _on(self.load if self.apart else None):
            yield

    def lend(self, pid: int) -> None:
        """Let a process that has just been started use both cores for the time being."""
        _keep(pid, self.load | self.work if self.apart else None)

    def return_to_load(self, pid: int) -> None:
        """Keep a process and its descendants on the core of load and emulator from now on."""
        _keep(pid, self.load if self.apart else None)

    def return_to_work(self, pid: int) -> None:
        """Keep a process and its descendants on the core of what is measured from now on."""
        _keep(pid, self.work if self.apart else None)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Start processes in this block on the core of what is measured."""
        with _on(self.work if self.apart else None):
            yield


@contextlib.contextmanager
def _on(cores: frozenset[int] | None) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, on some cores."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _keep(pid: int, cores: frozenset[int] | None) -> None:
    """Keep all threads of a process and its descendants on some cores."""
    if cores is None:
        return
    for member in family(pid):
        for thread in Path(f"/proc/{member}/task").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                os.sched_setaffinity(int(thread.name), cores)


def family(pid: int) -> set[int]:
    """Return a process id and those of all its descendants; only its own without /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parents[int(stat.parent.name)] = int(_fields(stat)[_PARENT])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used so far; those that are gone count nothing."""
    spent = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = _fields(Path(f"/proc/{pid}/stat"))
            spent += int(fields[_USER]) + int(fields[_SYSTEM])
    return spent / _TICKS


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory that processes hold at the moment, what they share counted for each."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _fields(stat: Path) -> list[str]:
    return stat.read_text().rpartition(")")[2].split()
