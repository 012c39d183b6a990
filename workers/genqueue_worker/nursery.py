"""The nursery: a process that forks one for each flight that has to run alone; see `solo`.

Forked from the worker while that has neither thread nor connection, or, when the first one died, started as `python -m
genqueue_worker.nursery`. It has none either, so that a fork of it is as good as a new process, and costs milliseconds.
Its standard input and output are pipes.

It reads lines: the worker's settings as a JSON object, which a forked one knows, then `run <number> <flight> <stamp>`
and `end <number> <reason>`. It writes lines: `claimed <number>`; `ended <number> <word> <outcome>`, of which the former
is for Celery and Flower and the latter is counted, with ` dead` behind it when a dead letter was made; `lost <number>
<status>` when a process ended without a word. When its input ends, the worker is gone: its processes hand back what
they run, and it ends with the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, NoReturn

import uvloop

from genqueue.ledger import Refusal
from genqueue_worker import cancellation, runner
from genqueue_worker.cancellation import CLEANUP_GRACE, Cancellation, Reason
from genqueue_worker.runtime import running
from genqueue_worker.settings import WorkerSettings
from genqueue_worker.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger("genqueue.solo")

#: How a process is told why it must end.
SIGNALS: Final[dict[str, signal.Signals]] = {
    cancellation.SHUTDOWN: signal.SIGTERM,
    cancellation.SOFT_LIMIT: signal.SIGUSR1,
    cancellation.HARD_LIMIT: signal.SIGUSR1,
    cancellation.REVOKED: signal.SIGUSR2,
}

#: Kept for a process until it listens, and from the nursery for good: the end of the input is what ends that.
_BLOCKED: Final = {*SIGNALS.values(), signal.SIGINT}

#: What is told of a flight that could not be run at all, and counted.
LOST: Final = ["lost", "lost"]

#: Seconds processes may take to hand back what they run when the worker is gone; then they are killed.
_LAST: Final = CLEANUP_GRACE + 1.0

#: Chosen first by a kernel that runs out of memory: rather this process than the worker's.
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")


class Nursery:
    """Forks, and tells of ends.

    Args:
        settings: the worker's.
        reports: file descriptor of the pipe to the worker.
    """

    def __init__(self, settings: WorkerSettings, reports: int) -> None:
        self._settings = settings
        self._reports = reports
        self._numbers: dict[int, int] = {}
        # Its writing end is open in this process alone: when that is gone, every child reads the end of it.
        self._lifeline, self._life = os.pipe()
        self._died, self._dying = os.pipe()

    def serve(self, commands: int) -> None:
        """Do what the lines on a file descriptor say until it ends, and see the last processes off."""
        os.set_blocking(self._dying, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._dying, warn_on_full_buffer=False)
        rest = b""
        while True:
            if commands in self._wait(commands):
                read = os.read(commands, 65536)
                if not read:
                    break
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    self._do(line.decode())
        os.close(self._life)
        give_up = time.monotonic() + _LAST
        while self._numbers and (left := give_up - time.monotonic()) > 0:
            self._wait(timeout=left)
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _wait(self, *descriptors: int, timeout: float | None = None) -> list[int]:
        """Wait for one of the descriptors or a process's end, and take note of the latter."""
        readable, _, _ = select.select([self._died, *descriptors], [], [], timeout)
        if self._died in readable:
            os.read(self._died, 4096)
            self._reap()
        return readable

    def _do(self, line: str) -> None:
        word, number, *rest = line.split(" ")
        if word == "run":
            flight, stamp = rest
            self._run(int(number), flight, int(stamp))
        elif word == "end":
            for pid in [pid for pid, known in self._numbers.items() if known == int(number)]:
                os.kill(pid, SIGNALS[rest[0]])

    def _run(self, number: int, flight: str, stamp: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            log.error("solo.not_forked flight=%s error=%s", flight, error)  # noqa: TRY400 - no fault of ours
            self._tell("lost", number, "0")
            return
        if pid:
            self._numbers[pid] = number
            return
        with contextlib.suppress(BaseException):  # nothing of the nursery's may run in its child
            self._part()
            claimed = partial(self._tell, "claimed", number)
            self._tell("ended", number, *fly(self._settings, Doorbell(flight, stamp), self._lifeline, claimed))
        _leave()

    def _part(self) -> None:
        """Let go of what is the nursery's; in its child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self._life, self._died, self._dying):
            os.close(descriptor)
        _read_nothing()  # of the commands, whose pipe must break when the nursery is gone
        with contextlib.suppress(OSError):
            _OOM_SCORE.write_text("1000")

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._tell("lost", self._numbers.pop(pid), str(os.waitstatus_to_exitcode(status)))

    def _tell(self, how: str, number: int, *rest: str) -> None:
        """Write one line, whole whoever else writes."""
        with contextlib.suppress(OSError):  # the worker is gone
            os.write(self._reports, f"{' '.join((how, str(number), *rest))}\n".encode())


class Doorbell(NamedTuple):
    """What a message says."""

    flight: str
    stamp: int


def fly(settings: WorkerSettings, message: Doorbell, lifeline: int, claimed: Callable[[], None]) -> list[str]:
    """Run a flight in this process; returns its outcome in a word, and what to count, for `ended`."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            return loop.run(_fly(settings, message, lifeline, claimed))
    except Exception:
        log.exception("solo.failed flight=%s; it is left to its lease", message.flight)
        return LOST


async def _fly(settings: WorkerSettings, message: Doorbell, lifeline: int, claimed: Callable[[], None]) -> list[str]:
    cancellation.current.set(cut := Cancellation())
    telemetry = Telemetry()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task

    def ending(reason: Reason) -> Callable[[], None]:
        def end() -> None:
            cut.reason = reason
            task.cancel()

        return end

    loop = asyncio.get_running_loop()
    for reason in (cancellation.SHUTDOWN, cancellation.SOFT_LIMIT, cancellation.REVOKED):
        loop.add_signal_handler(SIGNALS[reason], ending(reason))
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)

    def cut_loose() -> None:
        loop.remove_reader(lifeline)
        loop.call_later(CLEANUP_GRACE, _leave)
        ending(cancellation.SHUTDOWN)()

    loop.add_reader(lifeline, cut_loose)
    try:
        with _turning(loop, settings.stuck_timeout):
            async with running(settings, telemetry, lanes=None) as runtime:
                attempt = await runner.claim(runtime, *message, alone=True)
                if isinstance(attempt, Refusal):
                    return [attempt.reason, "refused"]
                claimed()
                word = await runner.carried(runtime, attempt)
    except asyncio.CancelledError:
        word = runner.HANDED_BACK
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)  # what it ended as is known
        loop.remove_reader(lifeline)
    return [word, telemetry.ended or "interrupted", *(["dead"] if telemetry.dead else [])]


@contextmanager
def _turning(loop: asyncio.AbstractEventLoop, patience: float) -> Iterator[None]:
    """End the process, showing where it stands, when its loop does not turn for so many seconds; 0 never.

    By a thread that needs no interpreter: what holds the loop up may hold that too.
    """
    if not patience:
        yield
        return

    turned: asyncio.Handle

    def turn() -> None:
        nonlocal turned
        faulthandler.dump_traceback_later(patience, exit=True)
        turned = loop.call_later(patience / 4, turn)

    turned = loop.call_soon(turn)
    try:
        yield
    finally:
        turned.cancel()
        faulthandler.cancel_dump_traceback_later()


def _read_nothing() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _leave() -> NoReturn:
    logging.shutdown()
    os._exit(0)


def main() -> None:
    """Serve the worker that started this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    reports = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no report
    first = b""
    while not first.endswith(b"\n"):  # one byte at a time: what follows is read by whoever serves
        read = os.read(0, 1)
        if not read:
            return
        first += read
    started = json.loads(first)
    _serve(WorkerSettings(**started["settings"]), reports, started["level"])


def _serve(settings: WorkerSettings, reports: int, level: int) -> None:
    logging.basicConfig(
        level=level,
        format="[%(asctime)s: %(levelname)s/solo-%(process)d] %(message)s",
        stream=sys.__stderr__,
        force=True,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    gc.freeze()  # or the first collection of each child would copy every page that it shares
    Nursery(settings, reports).serve(0)


class Forked(NamedTuple):
    """A nursery that was forked, as the worker sees it."""

    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]

    def wait(self) -> int:
        """Wait for its end, and return its status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fork(settings: WorkerSettings, level: int) -> Forked | None:
    """Fork a nursery from this process; None when it has threads, whose locks a fork would take along.

    Args:
        settings: the worker's.
        level: what is logged.
    """
    if threading.active_count() > 1:
        return None
    (commands, to_nursery), (from_nursery, reports) = os.pipe(), os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):  # nothing of the worker's may run in its child
            os.setsid()  # away from a terminal's Ctrl-C, which is meant for the worker
            os.dup2(commands, 0)
            os.dup2(2, 1)  # what a library prints is no report
            for descriptor in (commands, to_nursery, from_nursery):
                os.close(descriptor)
            _serve(settings, reports, level)
        _leave()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(commands)
    os.close(reports)
    return Forked(pid, open(to_nursery, "wb"), open(from_nursery, "rb"))  # noqa: PTH123 - pipes


if __name__ == "__main__":
    main()
