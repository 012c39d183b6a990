"""`python -m genqueue_worker.nursery`: forks a process for each flight that has to run alone; see `solo`.

Started by a worker, with pipes for standard input and output. It has no thread and no connection, so that a fork of it
is as good as a new process, and costs milliseconds.

It reads lines: the worker's settings as a JSON object, then `run <number> <flight> <stamp>` and `end <number>
<reason>`. It writes lines: `claimed <number>`; `ended <number> <word> <outcome>`, of which the former is for Celery and
Flower and the latter is counted, with ` dead` behind it when a dead letter was made; `lost <number> <status>` when a
process ended without a word. When its input ends, the worker is gone: its processes hand back what they run, and it
ends with the last of them.
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
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

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
    logging.basicConfig(
        level=started["level"], format="[%(asctime)s: %(levelname)s/solo-%(process)d] %(message)s", stream=sys.stderr
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    gc.freeze()  # or the first collection of each child would copy every page that it shares
    Nursery(WorkerSettings(**started["settings"]), reports).serve(0)


if __name__ == "__main__":
    main()
