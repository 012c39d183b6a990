"""Every operation on a job that was submitted, step by step."""

import json

import pytest

from genqueue import scripts
from genqueue.errors import (
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    ServerUnavailable,
    WaitTimeout,
)
from genqueue.jobs import cancel, look_up, result, status
from genqueue.keys import Keys
from genqueue.patience import Patience
from genqueue.reading.bells import Heard
from genqueue.steps import Listen, Query, Run

KEYS = Keys()
FLIGHT = "3-" + "f" * 20
JOB = "3-" + "a" * 20
ANSWER = [b"succeeded", b'{"text":"Yes."}', b'{"source":"cache"}']
NO_ANSWER = [b"running", None, None]
ABOARD = [FLIGHT.encode(), None]
#: The server's clock, of which a look at a job comes with, and what such looks may find.
CLOCK = (5000, 500_000)
RUNNING, SUCCEEDED, NOTHING = (
    [CLOCK, (None, None), b"running"],
    [CLOCK, (None, None), b"succeeded"],
    [CLOCK, (None, None), None],
)


def test_a_job_is_found_by_its_id(stage):
    """With all that tailing it takes."""
    found = stage.play(look_up(KEYS, JOB), [[FLIGHT.encode(), b"its-mark"]])
    assert (found.job_id, found.flight, found.mark) == (JOB, FLIGHT, "its-mark")


def test_an_unknown_job_is_not_found(stage):
    """The error is a LookupError that names the id."""
    with pytest.raises(JobNotFound, match=JOB) as raised:
        stage.play(look_up(KEYS, JOB), [[None, None]])
    assert isinstance(raised.value, LookupError)


def test_looking_up_sits_out_what_its_caller_would(stage, away):
    """A reader that resumes during an outage has its whole patience."""
    found = stage.play(look_up(KEYS, JOB, Patience(reconnect=9)), *[away] * 5, [[FLIGHT.encode(), b"m"]])
    assert found.flight == FLIGHT


@pytest.mark.parametrize(
    ("left", "state", "shown"),
    [(None, b"running", "running"), (b"cancelled", b"running", "cancelled"), (None, b"succeeded", "succeeded")],
)
def test_status_is_the_jobs_own(stage, reference, left, state, shown):
    """A member that left has ended, though its flight goes on."""
    job, flight = [b"low", b"acme", b"5061500", left, b"00-a-b-01", None], [state, b"2", b"1", None, b"77"]
    found = stage.play(status(reference), [CLOCK, job, flight])
    assert (found.state, found.lane, found.tenant, found.deadline) == (shown, "low", "acme", 5061.5)
    assert (found.attempt, found.tries, found.losses) == (2, 1, 0)
    assert (found.flight, found.task_id, found.traceparent) == (FLIGHT, f"{FLIGHT}.77", "00-a-b-01")


@pytest.mark.parametrize(
    ("job", "flight"), [([None] * 6, [None] * 5), ([b"low", b"t", b"1", None, None, None], [None] * 5)]
)
def test_status_after_the_retention_is_not_found(stage, reference, job, flight):
    """Half of a job is none."""
    with pytest.raises(JobNotFound):
        stage.play(status(reference), [CLOCK, job, flight])


def test_a_finished_job_is_answered_in_one_round_trip(stage, reference):
    """No stream is needed for it."""
    found = stage.play(result(reference, Patience()), [ABOARD, ANSWER])
    assert (found.text, found.source, found.job_id) == ("Yes.", "cache", reference.job_id)
    assert len(stage.steps) == 1


def test_a_running_job_is_waited_for_by_its_bell(stage, reference):
    """Its stream is not read; what happens between the look and the confirmation is not missed."""
    story = [[ABOARD, NO_ANSWER], RUNNING, Heard(out_of_step=True), SUCCEEDED, [ABOARD, ANSWER]]
    assert stage.play(result(reference, Patience()), *story).text == "Yes."
    assert [listen.channels for listen in stage.of(Listen)] == [(reference.bell,)]


def test_an_end_between_the_two_looks_is_seen(stage, reference):
    """The job ended before anybody listened: nothing is waited for."""
    story = [[ABOARD, NO_ANSWER], SUCCEEDED, [ABOARD, ANSWER]]
    assert stage.play(result(reference, Patience()), *story).text == "Yes."
    assert stage.of(Listen) == []


def test_an_outage_during_the_wait_costs_nothing(stage, away, reference):
    """However long it is, within the patience: the answer is still there."""
    story = [[ABOARD, NO_ANSWER], RUNNING, Heard(away=away), Heard(out_of_step=True)]
    ended = [away, SUCCEEDED, [ABOARD, ANSWER]]
    assert stage.play(result(reference, Patience()), *story, *ended).text == "Yes."


@pytest.mark.parametrize(
    ("left", "flight", "kind"),
    [
        (b"cancelled", ANSWER, JobCancelled),
        (b"expired", NO_ANSWER, JobExpired),
        (None, [b"cancelled", None, b"{}"], JobCancelled),
        (None, [b"expired", None, b"{}"], JobExpired),
        (None, [b"failed", None, json.dumps({"code": "X", "message": "y"}).encode()], JobFailed),
    ],
)
def test_every_other_end_is_an_error(stage, reference, left, flight, kind):
    """Ones own end counts before the flight's."""
    with pytest.raises(kind):
        stage.play(result(reference, Patience()), [[FLIGHT.encode(), left], flight])


def test_a_purged_jobs_result_is_not_found(stage, reference):
    """Though others had the flight, and it has ended with an answer."""
    with pytest.raises(JobNotFound):
        stage.play(result(reference, Patience()), [[None, None], ANSWER])


def test_a_result_after_its_retention_is_not_found(stage, reference):
    """Nobody waits for a flight that is gone."""
    nothing = [ABOARD, [None, None, None]]
    with pytest.raises(JobNotFound):
        stage.play(result(reference, Patience()), nothing, NOTHING, nothing)


def test_waiting_for_a_result_has_the_callers_timeout(stage, clock, away, reference):
    """While the job runs, and while the server is away."""
    started = clock.seconds
    with pytest.raises(WaitTimeout):
        stage.play(result(reference, Patience(3.0)), [ABOARD, NO_ANSWER], RUNNING, Heard(), RUNNING)
    with pytest.raises(ServerUnavailable):
        stage.play(result(reference, Patience(3.0)), last=away)
    assert clock.seconds - started == 6.0


@pytest.mark.parametrize(
    ("reply", "ended"),
    [
        ([b"ended", b"", b""], True),
        ([b"left", b"i", b"t"], True),
        ([b"already", b"expired"], False),
        ([b"done", b"failed"], False),
    ],
)
def test_cancel_tells_whether_it_ended_the_job(stage, reference, reply, ended):
    """False means that it had ended before."""
    assert stage.play(cancel(reference, KEYS), reply) is ended
    assert stage.steps[0].call.script is scripts.LEAVE


def test_cancelling_a_job_nobody_knows_is_not_found(stage, reference):
    """Its retention is over."""
    with pytest.raises(JobNotFound):
        stage.play(cancel(reference, KEYS), [b"gone"])


def test_no_operation_asks_more_than_it_needs(stage, reference):
    """A status is one round trip."""
    stage.play(status(reference), [CLOCK, *OVERDUE[:-1], [b"succeeded", *OVERDUE[-1][1:]]])
    assert [type(step) for step in stage.steps] == [Query]


#: What a status finds of a job whose deadline has passed.
OVERDUE = [[b"low", b"t", b"5000000", None, None, None], [b"queued", b"0", b"0", b"0", b"1"]]


def test_status_ends_what_nobody_else_ended(stage, reference):
    """The deadline has passed, by the server's clock, and there may be no worker."""
    ended = [OVERDUE[0], [b"expired", b"0", b"0", b"0", b"1"]]
    found = stage.play(status(reference), [CLOCK, *OVERDUE], [b"ended", b"", b""], [CLOCK, *ended])
    assert found.state == "expired"
    assert stage.of(Run)[0].call.args[1:] == (reference.job_id, "expired")


def test_status_tells_what_it_knows_when_it_may_end_nothing(stage, away, reference):
    """Whoever asks may have the right to read alone."""
    assert stage.play(status(reference), [CLOCK, *OVERDUE], away).state == "queued"
