"""A stage on which operations run without a server: a script of replies, and a clock that only steps move."""

from collections import deque
from types import SimpleNamespace

import pytest

from genqueue.errors import ServerUnavailable
from genqueue.keys import Keys
from genqueue.reading.bells import Heard
from genqueue.reading.tail import Reference
from genqueue.steps import Hear, Listen, Pause, Publish, Step

FLIGHT = "3-" + "f" * 20
JOB = "3-" + "a" * 20


class Clock:
    """Time that passes only where a step says so."""

    def __init__(self):
        self.seconds = 1000.0
        self.jumped = 0.0

    def monotonic(self):
        """Return its time."""
        return self.seconds

    def time(self):
        """Return its time, off by what somebody set it to."""
        return self.seconds + self.jumped


class StageInbox:
    """Stands for an inbox, which an operation only hands back."""

    def __init__(self):
        self.closed = False

    def close(self):
        """Remember it."""
        self.closed = True


class Stage:
    """Carries an operation out from a script: one reply, or one exception to throw, for each step that wants one.

    Listening is answered with an inbox, unless the script has an exception at that point.
    """

    def __init__(self, clock):
        self.clock = clock
        self.steps = []
        self.events = []
        self.inboxes = []
        self._deaf = False

    def play(self, operation, *replies, last=None):
        """Return what the operation returns; `last` answers every step behind the script's end."""
        script = deque(replies)
        try:
            step = next(operation)
            while True:
                if not isinstance(step, Step):
                    self.events.append(step)
                    step = next(operation)
                    continue
                self.steps.append(step)
                reply = self._reply(step, script, last)
                if isinstance(step, Pause) or (isinstance(step, Hear) and self._silent(reply)):
                    self.clock.seconds += step.seconds
                step = operation.throw(reply) if isinstance(reply, Exception) else operation.send(reply)
        except StopIteration as stop:
            assert not script, f"nobody asked for {list(script)}"
            return stop.value

    def _silent(self, heard):
        """Return whether nothing came, so that the whole time passed; that the line is lost is heard at once."""
        was_deaf, self._deaf = self._deaf, heard.away is not None
        return heard == Heard() or (was_deaf and self._deaf)

    def _reply(self, step, script, last):
        if isinstance(step, (Pause, Publish)):
            return None
        if isinstance(step, Listen) and not isinstance(script[0] if script else last, Exception):
            self.inboxes.append(StageInbox())
            return self.inboxes[-1]
        return script.popleft() if script else last

    def of(self, kind):
        """Return the steps of one kind."""
        return [step for step in self.steps if isinstance(step, kind)]


@pytest.fixture
def clock(monkeypatch):
    """Put a clock in place of the real one in everything that waits."""
    made = Clock()
    for module in ("reading.tail", "reading.completions", "reading.expiry", "patience", "deployment", "submission"):
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
    return Reference(JOB, FLIGHT, "my-mark", Keys())
