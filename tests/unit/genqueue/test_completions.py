"""Waiting for ends, step by step: what is asked, who is told, when it is given up."""

import json
from dataclasses import replace

import pytest

from genqueue.errors import ServerUnavailable, WaitTimeout
from genqueue.keys import Keys
from genqueue.patience import Patience
from genqueue.reading.bells import Heard
from genqueue.reading.completions import BATCH, completions
from genqueue.reading.tail import POLL
from genqueue.steps import Listen, Read, Run

FOR_EVER = Patience()
AT_ONCE = Heard(out_of_step=True)
FIRST, SECOND, THIRD, FOURTH = (f"3-{digit * 20}" for digit in "1234")
ANOTHER = Keys().bell(FOURTH)
#: The server's, whatever this machine's say.
CLOCK = (5000, 500_000)
#: What a look at one job may find: why it left and its deadline, and its flight's state.
RUNNING, DONE, FAILED, LEFT, GONE = (
    [(None, None), b"running"],
    [(None, None), b"succeeded"],
    [(None, None), b"failed"],
    [(b"cancelled", None), b"running"],
    [(None, None), None],
)


def due(seconds):
    """Return what a look finds of a job whose deadline is so many seconds away."""
    return [(None, str(5_000_500 + int(seconds * 1000)).encode()), b"queued"]


def look(*found):
    """Return the reply to a look at several jobs."""
    return [CLOCK, *(reply for one in found for reply in one)]


ONE, ALL = look(RUNNING), look(RUNNING, RUNNING, RUNNING)


@pytest.fixture
def jobs(reference):
    """Return two jobs aboard of one flight and a third one alone."""
    return (
        replace(reference, job_id=FIRST),
        replace(reference, job_id=SECOND, mark="two's"),
        replace(reference, job_id=THIRD, flight=FOURTH, mark="three's"),
    )


def rung(bell, kind, **fields):
    """Return what an inbox holds with a ring of this type in it."""
    flat = [text for pair in {"type": kind, **fields}.items() for text in pair]
    return Heard(((bell, json.dumps(["1-0", "2-0", flat]).encode()),))


def test_those_that_have_ended_are_told_at_once(stage, jobs):
    """However they ended, in one round trip, and nobody listens."""
    stage.play(completions(jobs, FOR_EVER), look(DONE, LEFT, GONE))
    assert stage.events == [FIRST, SECOND, THIRD]
    assert len(stage.steps) == 1


def test_each_is_told_when_its_end_is_rung(stage, jobs):
    """All aboard of a flight that ends; one that leaves alone."""
    looks = [ALL, AT_ONCE, ALL]
    left = rung(jobs[0].bell, "left", mark="two's")
    stage.play(completions(jobs, FOR_EVER), *looks, left, rung(ANOTHER, "failed"), rung(jobs[0].bell, "completed"))
    assert stage.events == [SECOND, THIRD, FIRST]
    assert {*stage.of(Listen)[0].channels} == {jobs[0].bell, ANOTHER}
    assert stage.of(Listen)[0].ends_only


def test_an_end_between_the_look_and_the_confirmation_is_not_missed(stage, jobs):
    """All are looked at again."""
    stage.play(completions(jobs, FOR_EVER), ALL, AT_ONCE, look(DONE, DONE, FAILED))
    assert stage.events == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize("odd", [Heard(((ANOTHER, b'["1-0","2-0",false]'),)), Heard(((ANOTHER, b"?"),)), AT_ONCE])
def test_a_ring_that_says_nothing_means_looking(stage, jobs, odd):
    """Its fields were too long, a stranger rang, or some were missed."""
    stage.play(completions(jobs[2:], FOR_EVER), ONE, AT_ONCE, ONE, odd, look(DONE))
    assert stage.events == [THIRD]


def test_a_ring_of_an_end_told_before_tells_nothing(stage, jobs):
    """Nobody is told twice."""
    ends = Heard(rung(jobs[0].bell, "completed").rings * 2)
    stage.play(completions(jobs, FOR_EVER), ALL, AT_ONCE, ALL, ends, rung(ANOTHER, "completed"))
    assert stage.events == [FIRST, SECOND, THIRD]


def test_silence_is_looked_into(stage, clock, jobs):
    """Now and then."""
    started = clock.seconds
    stage.play(completions(jobs[2:], FOR_EVER), ONE, AT_ONCE, ONE, Heard(), ONE, Heard(), look(DONE))
    assert clock.seconds - started == 2 * POLL


def test_many_are_asked_about_in_batches(stage, reference):
    """A round trip has bounds."""
    many = [replace(reference, job_id=f"3-{number:020x}") for number in range(BATCH + 1)]
    stage.play(completions(many, FOR_EVER), look(*[DONE] * BATCH), look(DONE))
    assert [len(step.commands) for step in stage.of(Read)] == [2 * BATCH + 1, 3]
    assert len(stage.events) == BATCH + 1


def test_nobody_to_wait_for_is_no_wait(stage):
    """Nothing is asked."""
    stage.play(completions((), FOR_EVER))
    assert stage.steps == []


def test_a_timeout_passes_on_time_and_never_hides_an_end(stage, clock, jobs):
    """The last thing done is to look; the error names one that has not ended."""
    started = clock.seconds
    story = [ALL, AT_ONCE, ALL, Heard(), look(RUNNING, DONE, DONE)]
    with pytest.raises(WaitTimeout, match=FIRST):
        stage.play(completions(jobs, Patience(3.0)), *story)
    assert stage.events == [SECOND, THIRD]
    assert clock.seconds - started == 3.0


@pytest.mark.parametrize("deaf", [False, True])
def test_outages_are_sat_out_up_to_a_limit(stage, clock, away, jobs, deaf):
    """Whether nothing can be asked or nothing heard."""
    started, begun = clock.seconds, [ONE, AT_ONCE, ONE] if deaf else []
    last = Heard(away=away) if deaf else away
    stage.play(completions(jobs[2:], FOR_EVER), *begun, last, *([AT_ONCE] if deaf else []), look(DONE))
    assert stage.events == [THIRD]
    started = clock.seconds
    with pytest.raises(ServerUnavailable):
        stage.play(completions(jobs[2:], Patience(reconnect=5.0)), *begun, last=last)
    assert clock.seconds - started == 5.0


def test_those_that_nobody_ends_are_ended_soon_after_their_deadlines(stage, clock, jobs):
    """There may be no worker: at its moment each, one that another flight's members outlive as well."""
    started = clock.seconds
    found = look(due(2.0), due(7.0), due(2.0))
    looks = [found, AT_ONCE, found, Heard()]
    stage.play(
        completions(jobs, FOR_EVER),
        *looks,
        [b"ended", b"", b""],
        Heard(),
        [b"already", b"cancelled"],
        *(Heard(), [b"left", b"inbox", b"token"]),
    )
    assert sorted(stage.events) == [FIRST, SECOND, THIRD]
    assert stage.events[-1] == SECOND
    assert 7.0 < clock.seconds - started < 8.0
    assert [step.call.args[1:] for step in stage.of(Run)][-1] == (SECOND, "expired")


def test_what_is_too_early_is_tried_again_at_its_moment(stage, clock, jobs):
    """The server's clock counts, and it says how long."""
    started = clock.seconds
    found = look(due(1.0))
    stage.play(completions(jobs[2:], FOR_EVER), found, AT_ONCE, found, Heard(), [b"early", b"3000"], Heard(), [b"gone"])
    assert stage.events == [THIRD]
    assert 4.0 < clock.seconds - started < 6.0


def test_nobody_who_may_not_write_waits_for_ever(stage, clock, away, jobs):
    """He tries again, ever more slowly, and gives up as in any outage; what ends meanwhile is told."""
    started, found = clock.seconds, look(due(-60.0))
    tries = [reply for _ in range(4) for reply in (Heard(), away)]
    with pytest.raises(ServerUnavailable):
        stage.play(
            completions(jobs[2:], Patience(reconnect=5.0)), found, away, AT_ONCE, found, *tries, Heard(), last=away
        )
    assert clock.seconds - started == pytest.approx(5.0)
    assert len(stage.of(Run)) == 6
