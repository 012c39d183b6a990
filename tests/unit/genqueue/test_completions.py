"""Waiting for ends, step by step: what is asked, who is told, when it is given up."""

import json
from dataclasses import replace

import pytest

from genqueue.errors import ServerUnavailable, WaitTimeout
from genqueue.patience import Patience
from genqueue.reading.bells import Heard
from genqueue.reading.completions import BATCH, completions
from genqueue.reading.tail import POLL
from genqueue.steps import Listen, Read

FOR_EVER = Patience()
AT_ONCE = Heard(out_of_step=True)
#: What a look at one job may find: why it left, and its flight's state.
RUNNING, DONE, FAILED, LEFT, GONE = (
    [None, b"running"],
    [None, b"succeeded"],
    [None, b"failed"],
    [b"cancelled", b"running"],
    [None, None],
)


@pytest.fixture
def jobs(reference):
    """Return two jobs aboard of one flight and a third one alone."""
    return (
        replace(reference, job_id="one"),
        replace(reference, job_id="two", mark="two's"),
        replace(reference, job_id="three", bell="another", mark="three's"),
    )


def rung(bell, kind, **fields):
    """Return what an inbox holds with a ring of this type in it."""
    flat = [text for pair in {"type": kind, **fields}.items() for text in pair]
    return Heard(((bell, json.dumps(["1-0", "2-0", flat]).encode()),))


def test_those_that_have_ended_are_told_at_once(stage, jobs):
    """However they ended, in one round trip, and nobody listens."""
    stage.play(completions(jobs, FOR_EVER), [*DONE, *LEFT, *GONE])
    assert stage.events == ["one", "two", "three"]
    assert len(stage.steps) == 1


def test_each_is_told_when_its_end_is_rung(stage, jobs):
    """All aboard of a flight that ends; one that leaves alone."""
    looks = [[*RUNNING] * 3, AT_ONCE, [*RUNNING] * 3]
    left = rung(jobs[0].bell, "left", mark="two's")
    stage.play(completions(jobs, FOR_EVER), *looks, left, rung("another", "failed"), rung(jobs[0].bell, "completed"))
    assert stage.events == ["two", "three", "one"]
    assert {*stage.of(Listen)[0].channels} == {jobs[0].bell, "another"}
    assert stage.of(Listen)[0].ends_only


def test_an_end_between_the_look_and_the_confirmation_is_not_missed(stage, jobs):
    """All are looked at again."""
    stage.play(completions(jobs, FOR_EVER), [*RUNNING] * 3, AT_ONCE, [*DONE, *DONE, *FAILED])
    assert stage.events == ["one", "two", "three"]


@pytest.mark.parametrize("odd", [Heard((("another", b'["1-0","2-0",false]'),)), Heard((("another", b"?"),)), AT_ONCE])
def test_a_ring_that_says_nothing_means_looking(stage, jobs, odd):
    """Its fields were too long, a stranger rang, or some were missed."""
    stage.play(completions(jobs[2:], FOR_EVER), RUNNING, AT_ONCE, RUNNING, odd, DONE)
    assert stage.events == ["three"]


def test_a_ring_of_an_end_told_before_tells_nothing(stage, jobs):
    """Nobody is told twice."""
    ends = Heard(rung(jobs[0].bell, "completed").rings * 2)
    stage.play(completions(jobs, FOR_EVER), [*RUNNING] * 3, AT_ONCE, [*RUNNING] * 3, ends, rung("another", "completed"))
    assert stage.events == ["one", "two", "three"]


def test_silence_is_looked_into(stage, clock, jobs):
    """Now and then."""
    started = clock.seconds
    stage.play(completions(jobs[2:], FOR_EVER), RUNNING, AT_ONCE, RUNNING, Heard(), RUNNING, Heard(), DONE)
    assert clock.seconds - started == 2 * POLL


def test_many_are_asked_about_in_batches(stage, reference):
    """A round trip has bounds."""
    many = [replace(reference, job_id=str(number)) for number in range(BATCH + 1)]
    stage.play(completions(many, FOR_EVER), DONE * BATCH, DONE)
    assert [len(step.commands) for step in stage.of(Read)] == [2 * BATCH, 2]
    assert len(stage.events) == BATCH + 1


def test_nobody_to_wait_for_is_no_wait(stage):
    """Nothing is asked."""
    stage.play(completions((), FOR_EVER))
    assert stage.steps == []


def test_a_timeout_passes_on_time_and_never_hides_an_end(stage, clock, jobs):
    """The last thing done is to look; the error names one that has not ended."""
    started = clock.seconds
    story = [[*RUNNING] * 3, AT_ONCE, [*RUNNING] * 3, Heard(), [*RUNNING, *DONE, *DONE]]
    with pytest.raises(WaitTimeout, match="one"):
        stage.play(completions(jobs, Patience(3.0)), *story)
    assert stage.events == ["two", "three"]
    assert clock.seconds - started == 3.0


@pytest.mark.parametrize("deaf", [False, True])
def test_outages_are_sat_out_up_to_a_limit(stage, clock, away, jobs, deaf):
    """Whether nothing can be asked or nothing heard."""
    started, begun = clock.seconds, [RUNNING, AT_ONCE, RUNNING] if deaf else []
    last = Heard(away=away) if deaf else away
    stage.play(completions(jobs[2:], FOR_EVER), *begun, last, *([AT_ONCE] if deaf else []), DONE)
    assert stage.events == ["three"]
    started = clock.seconds
    with pytest.raises(ServerUnavailable):
        stage.play(completions(jobs[2:], Patience(reconnect=5.0)), *begun, last=last)
    assert clock.seconds - started == 5.0
