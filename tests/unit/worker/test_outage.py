"""Saying that something fails once, and that it works again once."""

import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from genqueue_worker.outage import QUIET, Outage, is_passing


class Clock:
    """Time that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        """Return its time."""
        return self.now


@pytest.fixture
def clock():
    """Make a clock."""
    return Clock()


@pytest.fixture
def outage(clock, caplog):
    """Make an outage whose lines are seen."""
    caplog.set_level(logging.INFO, "test")
    return Outage(logging.getLogger("test"), "server.away", "server.back", "look at it", clock)


def test_what_works_says_nothing(outage, caplog):
    """However often."""
    outage.worked()
    outage.worked()
    assert not caplog.messages


def test_an_outage_is_two_lines(outage, clock, caplog):
    """What is wrong and what to do, and at the end how long it took and how much had failed."""
    for _ in range(100):
        outage.failed(OSError("refused"), count=2)
        clock.now += 0.1
    outage.worked()
    outage.worked()
    assert caplog.messages == ["server.away error=refused; look at it", "server.back after=10.0s failures=200"]


def test_what_fails_and_works_by_turns_is_not_a_line_each_time(outage, clock, caplog):
    """It is said again after a while."""
    for _ in range(50):
        outage.failed(OSError("refused"))
        outage.worked()
    assert len(caplog.messages) == 2
    clock.now += QUIET
    outage.failed(OSError("refused"))
    assert len(caplog.messages) == 3


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (RedisConnectionError("refused"), True),
        (OSError("unreachable"), True),
        (ReadOnlyError("replica"), True),
        (OutOfMemoryError("full"), True),
        (ResponseError("MISCONF its disk is full"), True),
        (ResponseError("NOREPLICAS not enough"), True),
        (ResponseError("WRONGTYPE"), False),
        (ResponseError("user_script:1: a fault of ours"), False),
    ],
)
def test_what_may_work_later(error, passing):
    """A server in trouble is waited for; what it will never take is not."""
    assert is_passing(error) is passing
