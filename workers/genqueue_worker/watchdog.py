"""A thread that sees what the other two cannot see of themselves: that they are stuck, or that nothing is fetched.

Both are called again and again; a call that is not answered is a thread that does not turn. Time is counted in looks,
each of which counts for a second at most: a process that was stopped and continued has lost none.
"""

from __future__ import annotations

import contextlib
import enum
import faulthandler
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("genqueue.watchdog")

#: Seconds between two looks.
TICK: Final = 1.0

#: Seconds Celery may take, beyond what a stuck one is given, to connect to a broker that answers.
CONNECT: Final = 30.0

#: Exit status of a worker that ends itself.
STUCK: Final = 1


class Verdict(enum.Enum):
    """What a look found, in the order of what leaves least to do."""

    LOOP_STUCK = "loop_stuck"
    HUB_STUCK = "hub_stuck"
    GIVE_UP = "give_up"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is wrong may last, in seconds; 0 is for ever.

    Attributes:
        stall: nothing is fetched though there is work and room.
        stuck: the hub or the loop does not turn.
    """

    stall: float
    stuck: float


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen at one moment.

    Attributes:
        loop, hub: whether the asyncio loop and Celery's hub turned since the last look.
        consuming: whether Celery's consumer is connected and takes messages.
        stopping: whether the worker was told to end.
        broker: whether the broker has answered lately.
        hungry: whether messages wait in this worker's queues while a slot is free and nothing holds it back.
        popped: messages fetched so far.
    """

    loop: bool
    hub: bool
    consuming: bool
    stopping: bool
    broker: bool
    hungry: bool
    popped: int


class Judge:
    """Counts how long what is wrong has lasted."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lasting: dict[str, float] = {}
        self._popped = 0
        self._restarted = False

    def lasting(self, what: str) -> float:
        """Return for how many seconds "loop", "hub", "connecting" or "stall" has been wrong."""
        return self._lasting.get(what, 0.0)

    def judge(self, look: Look, elapsed: float) -> Verdict | None:
        """Return what is to be done after a look, so many seconds after the last one."""
        popped, self._popped = look.popped != self._popped, look.popped
        on_duty = not look.stopping
        loop = self._count("loop", elapsed, wrong=not look.loop)
        hub = self._count("hub", elapsed, wrong=on_duty and look.consuming and look.broker and not look.hub)
        connecting = self._count("connecting", elapsed, wrong=on_duty and not look.consuming and look.broker)
        stall = self._count("stall", elapsed, wrong=on_duty and look.consuming and look.hungry and not popped)
        if _over(loop, self._patience.stuck):
            return Verdict.LOOP_STUCK
        if _over(hub, self._patience.stuck):
            return Verdict.HUB_STUCK
        if _over(connecting, self._patience.stuck and self._patience.stuck + CONNECT):
            return Verdict.GIVE_UP
        if look.consuming and not stall:
            self._restarted = False
        return self._hunger(stall)

    def _hunger(self, stall: float) -> Verdict | None:
        if not _over(stall, self._patience.stall):
            return None
        self._lasting["stall"] = 0.0
        if self._restarted:
            return Verdict.GIVE_UP
        self._restarted = True
        return Verdict.RESTART

    def _count(self, what: str, elapsed: float, *, wrong: bool) -> float:
        self._lasting[what] = self._lasting.get(what, 0.0) + elapsed if wrong else 0.0
        return self._lasting[what]


def _over(lasting: float, patience: float) -> bool:
    return patience > 0 and lasting >= patience


class Ping:
    """A call to another thread, made again as soon as the last one was answered.

    Args:
        send: has a function called on that thread, from any other.
    """

    def __init__(self, send: Callable[[Callable[[], None]], object]) -> None:
        self._send = send
        self._answered = True

    def answered(self) -> bool:
        """Return whether the last call was made, and then send the next."""
        if not self._answered:
            return False
        self._answered = False
        self._send(self._answer)
        return True

    def _answer(self) -> None:
        self._answered = True


class Ward(Protocol):
    """The worker that is watched. All but `hand_back` return at once."""

    def look(self) -> Look:
        """Return what is seen now."""

    def restart(self) -> None:
        """Have the consumer start anew."""

    def give_up(self) -> None:
        """Have the worker end, as after SIGTERM but with a failure."""

    def hand_back(self) -> None:
        """Hand back the flights without the hub; returns when that is done or has taken too long."""


class Watchdog:
    """Looks after a worker from a thread of its own, from `start` to `close`.

    Args:
        ward: the worker.
        patience: with what is wrong.
        ending: seconds within which a worker that was told to end must have.
    """

    def __init__(self, ward: Ward, patience: Patience, ending: float) -> None:
        self._ward = ward
        self._ending = ending
        self._judge = Judge(patience)
        enabled = [seconds for seconds in (patience.stall, patience.stuck) if seconds]
        self._tick = min(TICK, *(seconds / 4 for seconds in enabled)) if enabled else TICK
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="genqueue-watchdog", daemon=True)
        self._spent = 0.0

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def lasting(self, what: str) -> float:
        """Return for how many seconds "loop", "hub", "connecting" or "stall" has been wrong."""
        return self._judge.lasting(what)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._closed.wait(self._tick):
            now = time.monotonic()
            elapsed = min(now - last, 2 * self._tick)
            last = now
            look = self._ward.look()
            self._act(self._judge.judge(look, elapsed))
            if look.stopping:
                self._count_down(elapsed)

    def _act(self, verdict: Verdict | None) -> None:
        match verdict:
            case Verdict.RESTART:
                log.error("watchdog.restart nothing is fetched though work waits and slots are free; connecting anew")
                self._ward.restart()
            case Verdict.GIVE_UP:
                log.critical("watchdog.give_up a new connection to the broker did not help; the worker ends")
                self._ward.give_up()
            case Verdict.HUB_STUCK:
                log.critical("watchdog.hub_stuck Celery's thread does not turn; its flights are handed back")
                _show_stacks()
                self._ward.hand_back()
                _leave()
            case Verdict.LOOP_STUCK:
                log.critical("watchdog.loop_stuck the asyncio loop does not turn; its flights are left to their leases")
                _show_stacks()
                _leave()

    def _count_down(self, elapsed: float) -> None:
        self._spent += elapsed
        if self._spent >= self._ending:
            log.critical(
                "watchdog.not_ended after=%.0fs the worker was told to; its flights are handed back", self._spent
            )
            _show_stacks()
            self._ward.hand_back()
            _leave()


def _show_stacks() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)


def _leave() -> None:
    """End the process from a thread that is not the main one, which may never listen again."""
    logging.shutdown()
    os._exit(STUCK)
