"""A stage on which operations run without a server: a script of replies, and a clock that only steps move."""

from types import SimpleNamespace

import pytest

from genqueue.errors import ServerUnavailable
from genqueue.events import Event
from genqueue.keys import Keys
from genqueue.steps import Pause, Publish, Wait
from genqueue.tail import Reference

FLIGHT = "3-" + "f" * 20
JOB = "3-" + "a" * 20


class Clock:
    """Time that passes only where a step says so."""

    def __init__(self):
        self.seconds = 1000.0

    def monotonic(self):
        """Return its time."""
        return self.seconds

    def time(self):
        """Return its time."""
        return self.seconds


class Stage:
    """Carries an operation out from a script: one reply, or one exception to throw, for each step that wants one."""

    def __init__(self, clock):
        self.clock = clock
        self.steps = []
        self.events = []

    def play(self, operation, *replies, last=None):
        """Return what the operation returns; `last` answers every step behind the script's end."""
        script = iter(replies)
        try:
            step = next(operation)
            while True:
                if isinstance(step, Event):
                    self.events.append(step)
                    step = next(operation)
                    continue
                self.steps.append(step)
                reply = None if isinstance(step, (Pause, Publish)) else next(script, last)
                if isinstance(step, Pause) or (isinstance(step, Wait) and not reply):
                    self.clock.seconds += step.seconds
                step = operation.throw(reply) if isinstance(reply, Exception) else operation.send(reply)
        except StopIteration as stop:
            left = list(script)
            assert not left, f"nobody asked for {left}"
            return stop.value

    def of(self, kind):
        """Return the steps of one kind."""
        return [step for step in self.steps if isinstance(step, kind)]


@pytest.fixture
def clock(monkeypatch):
    """Put a clock in place of the real one in everything that waits."""
    made = Clock()
    for module in ("tail", "patience", "deployment"):
        monkeypatch.setattr(f"genqueue.{module}.time", SimpleNamespace(monotonic=made.monotonic, time=made.time))
    return made


@pytest.fixture
def stage(clock):
    """Make a stage on that clock."""
    return Stage(clock)


@pytest.fixture
def away():
    """Return what a step fails with while the server is away."""
    return ServerUnavailable("127.0.0.1:1/0", "refused")


@pytest.fixture
def reference():
    """Return where the events of a job are."""
    keys = Keys()
    return Reference(JOB, FLIGHT, "my-mark", keys.events(FLIGHT), keys.job(JOB), keys.flight(FLIGHT))
