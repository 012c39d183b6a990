"""Every operation on a job, step by step."""

import json

import pytest

from genqueue import scripts
from genqueue.deployment import Deployment
from genqueue.errors import (
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    ServerUnavailable,
    WaitTimeout,
)
from genqueue.jobs import cancel, look_up, result, status, submit
from genqueue.keys import Keys
from genqueue.ledger import Publication
from genqueue.order import make_order
from genqueue.patience import Patience
from genqueue.settings import Settings
from genqueue.steps import Publish, Query, Run, Wait

KEYS = Keys()
FLIGHT = "3-" + "f" * 20
JOB = "3-" + "a" * 20
SETTINGS = Settings(_env_file=None)
DONE = (b"9-0", {b"type": b"completed"})
ANSWER = [b"succeeded", b'{"text":"Yes."}', b'{"source":"cache"}']
NO_ANSWER = [b"running", None, None]


def offer(stage, *replies, clock_offset=0.0, **options):
    """Submit a question to a server that gives these replies."""
    return stage.play(submit(make_order("Hello", "m", options), Deployment(KEYS, clock_offset), SETTINGS), *replies)


def test_a_new_job_rings_the_broker_after_it_was_accepted(stage):
    """First the ledger, then the message; the reference is of the flight the server named."""
    found = offer(stage, [b"new", FLIGHT.encode(), b"generate.low", b"77"], lane="low")
    run, ring = stage.steps
    assert run.call.script is scripts.SUBMIT
    assert ring == Publish(Publication(FLIGHT, "generate.low", 77))
    assert (found.flight, found.stream) == (FLIGHT, KEYS.events(FLIGHT))
    assert found.job_key == KEYS.job(found.job_id)
    assert found.mark in run.call.args


@pytest.mark.parametrize("word", [b"joined", b"cached", b"dup"])
def test_nothing_is_published_where_nothing_is_due(stage, word):
    """A job that joined or was answered at once needs no message."""
    assert offer(stage, [word, FLIGHT.encode(), b"", b""]).flight == FLIGHT
    assert stage.of(Publish) == []


def test_a_lost_reply_is_asked_for_with_the_same_ids(stage, away):
    """So the server can tell that it is the same submission."""
    found = offer(stage, away, [b"dup", FLIGHT.encode(), b"generate.normal", b"5"])
    first, second = stage.of(Run)
    assert first == second
    assert found.job_id in first.call.args
    assert len(stage.of(Publish)) == 1


def test_a_server_that_stays_away_is_an_error_soon(stage, clock, away):
    """Whoever submits is waiting."""
    started = clock.seconds
    with pytest.raises(ServerUnavailable):
        offer(stage, *[away] * 3)
    assert clock.seconds - started < 1.0


def test_the_deadline_is_by_the_servers_clock(stage, clock):
    """A client whose clock is wrong by a day asks for the same moment."""
    offer(stage, [b"new", FLIGHT.encode(), b"q", b"1"], clock_offset=86_400.0, deadline=30)
    expected = int((clock.seconds + 86_400 + 30) * 1000)
    assert expected in stage.steps[0].call.args


def test_a_clock_that_was_set_is_read_again(stage, clock):
    """A deadline that has passed by the offset of yesterday is computed anew, and the job accepted."""
    late, server_time = [b"late", b"", b"", b""], [(b"5000", b"0"), [b"64", b"1"]]
    offer(stage, late, server_time, [b"new", FLIGHT.encode(), b"q", b"1"], deadline=30)
    assert 5_030_000 in stage.of(Run)[1].call.args
    assert len(stage.of(Publish)) == 1


def test_a_deadline_too_short_to_arrive_is_refused_by_name(stage):
    """Nothing was queued, nothing is published, and the message says what to change."""
    late, server_time = [b"late", b"", b"", b""], [(b"5000", b"0"), [b"64", b"1"]]
    with pytest.raises(InvalidRequest, match=r"deadline: got 0\.001, expected more seconds") as raised:
        offer(stage, late, server_time, late, deadline=0.001)
    assert raised.value.field == "deadline"
    assert stage.of(Publish) == []


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
    found = stage.play(look_up(KEYS, JOB, Patience(reconnect=9)), *[away] * 20, [[FLIGHT.encode(), b"m"]])
    assert found.flight == FLIGHT


@pytest.mark.parametrize(
    ("left", "state", "shown"),
    [(None, b"running", "running"), (b"cancelled", b"running", "cancelled"), (None, b"succeeded", "succeeded")],
)
def test_status_is_the_jobs_own(stage, reference, left, state, shown):
    """A member that left has ended, though its flight goes on."""
    job, flight = [b"low", b"acme", b"61500", left], [state, b"2", b"1", None]
    found = stage.play(status(reference), [job, flight])
    assert (found.state, found.lane, found.tenant, found.deadline) == (shown, "low", "acme", 61.5)
    assert (found.attempt, found.tries, found.losses) == (2, 1, 0)


@pytest.mark.parametrize(("job", "flight"), [([None] * 4, [None] * 4), ([b"low", b"t", b"1", None], [None] * 4)])
def test_status_after_the_retention_is_not_found(stage, reference, job, flight):
    """Half of a job is none."""
    with pytest.raises(JobNotFound):
        stage.play(status(reference), [job, flight])


def test_a_finished_job_is_answered_in_one_round_trip(stage, reference):
    """No stream is needed for it."""
    found = stage.play(result(reference, Patience()), [[], None, ANSWER])
    assert (found.text, found.source, found.job_id) == ("Yes.", "cache", reference.job_id)
    assert len(stage.steps) == 1


def test_a_running_job_is_waited_for_from_its_newest_event(stage, reference):
    """What happened before need not be read; what happens meanwhile is not missed."""
    newest = (b"7-0", {b"type": b"delta"})
    found = stage.play(
        result(reference, Patience()), [[newest], None, NO_ANSWER], [[newest], None], [DONE], [[DONE], None, ANSWER]
    )
    assert found.text == "Yes."
    assert [wait.after for wait in stage.of(Wait)] == ["7-0"]


def test_an_end_between_the_two_looks_is_seen(stage, reference):
    """The job ended before its stream was read: nothing is waited for."""
    newest = (b"7-0", {b"type": b"delta"})
    story = [[[newest], None, NO_ANSWER], [[DONE], None], [DONE], [[DONE], None, ANSWER]]
    assert stage.play(result(reference, Patience()), *story).text == "Yes."


def test_a_stream_that_expires_during_the_wait_leaves_its_result(stage, away, reference):
    """An outage can last longer than the stream's time to live; the answer is still there."""
    newest = (b"7-0", {b"type": b"delta"})
    story = [[[newest], None, NO_ANSWER], [[newest], None], away, away, [], [0], [[], None, ANSWER]]
    assert stage.play(result(reference, Patience()), *story).text == "Yes."


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
        stage.play(result(reference, Patience()), [[DONE], left, flight])


def test_a_result_after_its_retention_is_not_found(stage, reference):
    """With or without a stream that outlived it."""
    nothing = [None, None, None]
    with pytest.raises(JobNotFound):
        stage.play(result(reference, Patience()), [[], None, nothing])
    with pytest.raises(JobNotFound):
        stage.play(result(reference, Patience()), [[DONE], None, nothing], [[DONE], None], [[DONE], None, nothing])


def test_waiting_for_a_result_has_the_callers_timeout(stage, clock, away, reference):
    """While the job runs, and while the server is away."""
    newest, started = (b"7-0", {b"type": b"delta"}), clock.seconds
    with pytest.raises(WaitTimeout):
        stage.play(result(reference, Patience(3.0)), [[newest], None, NO_ANSWER], [[newest], None], *([], [1]) * 3)
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
    stage.play(status(reference), [[b"low", b"t", b"1", None], [b"queued", b"0", b"0", b"0"]])
    assert [type(step) for step in stage.steps] == [Query]
