"""Going on while the server is away, and giving up."""

import pytest

from genqueue.errors import ServerUnavailable
from genqueue.patience import BRIEF, RETRY, SLOWEST, Patience, persist
from genqueue.steps import Pause, Query


def ask():
    """Ask the server something."""
    return (yield Query((("PING",),)))


def test_a_server_that_is_there_is_asked_once(stage):
    """No pause, no second question."""
    assert stage.play(persist(ask, BRIEF), ["PONG"]) == ["PONG"]
    assert len(stage.steps) == 1


def test_a_short_outage_is_sat_out(stage, away):
    """The same operation begins anew until it is through."""
    assert stage.play(persist(ask, Patience(reconnect=10)), away, away, away, ["PONG"]) == ["PONG"]
    assert stage.of(Pause) == [Pause(RETRY), Pause(2 * RETRY), Pause(4 * RETRY)]


def test_a_thousand_who_wait_ask_less_and_less_often(stage, away):
    """The pauses grow, up to a bound; the last one ends with the patience."""
    with pytest.raises(ServerUnavailable):
        stage.play(persist(ask, Patience(reconnect=10.0)), last=away)
    pauses = [step.seconds for step in stage.of(Pause)]
    assert max(pauses) == SLOWEST
    assert sum(pauses) == 10.0


@pytest.mark.parametrize(
    ("patience", "seconds"),
    [
        (Patience(reconnect=0), 0),
        (BRIEF, 0.5),
        (Patience(reconnect=10), 10),
        (Patience(2, 60), 2),
        (Patience(0, 60), 0),
    ],
)
def test_a_long_outage_ends_the_patience(stage, clock, away, patience, seconds):
    """The error comes when the outage has lasted that long; nobody waits beyond his own timeout."""
    started = clock.seconds
    with pytest.raises(ServerUnavailable):
        stage.play(persist(ask, patience), last=away)
    assert clock.seconds - started == seconds


def test_other_errors_pass_at_once(stage):
    """Only an absent server is waited for."""
    with pytest.raises(KeyError):
        stage.play(persist(ask, Patience()), KeyError("x"))
    assert not stage.of(Pause)
