"""Dead letters, step by step, where the server gets in the way."""

import pytest

from genqueue import scripts
from genqueue.dead import drop
from genqueue.deployment import Deployment
from genqueue.errors import JobNotFound, ServerUnavailable, SubmitUncertain
from genqueue.intake import Intake
from genqueue.keys import SCHEMA, Keys
from genqueue.payload.codec import Codec
from genqueue.replay import replay
from genqueue.settings import Settings
from genqueue.steps import Run, RunMany

KEYS = Keys()
JOB, FLIGHT = "3-" + "a" * 20, "3-" + "f" * 20
ABOARD = [[FLIGHT.encode(), None]]
REQUEST = b'{"config":{},"contents":[{"parts":[{"text":"Hello"}],"role":"user"}],"model":"m","v":1}'
LOST = ServerUnavailable("127.0.0.1:1/0", "cut", sent=True)


@pytest.fixture
def intake():
    """Return an intake nobody has used."""
    return Intake(Deployment(KEYS), Settings(_env_file=None), Codec())


def test_a_drop_whose_reply_was_lost_has_dropped(stage, intake):
    """The second try finds no dead letter, where there was one a moment ago."""
    assert stage.play(drop(intake, JOB), ABOARD, [b"acme", 5.0], LOST, b"not_dead") is True
    assert [step.call.script for step in stage.of(Run)] == [scripts.DROP] * 2


def test_what_is_no_dead_letter_is_left_alone(stage, intake):
    """No script is run on it, so that no lost reply makes it look like one."""
    assert stage.play(drop(intake, JOB), ABOARD, [b"acme", None]) is False
    assert stage.of(Run) == []


def test_a_letter_that_goes_while_it_is_dropped_is_not_found(stage, intake):
    """Its time was over in between, or before that, which a job may outlive."""
    with pytest.raises(JobNotFound):
        stage.play(drop(intake, JOB), ABOARD, [b"acme", 5.0], b"gone")
    with pytest.raises(JobNotFound):
        stage.play(drop(intake, JOB), ABOARD, [None, None])


def test_an_uncertain_replay_has_the_new_jobs_id(stage, intake):
    """With which the same replay asks the server first whether that job is there."""
    job = [b"low", b"acme", b""]
    flight = [b"failed", b"{}", b"request", b"use", None, REQUEST]
    found = (ABOARD, [job, flight, 5.0, None], REQUEST)
    entered = ([(b"5000", b"0"), [b"64", str(SCHEMA).encode()]],)
    with pytest.raises(SubmitUncertain) as raised:
        stage.play(replay(intake, JOB, {}), *found, *entered, last=LOST)
    (submitted, *_) = stage.of(RunMany)[0].calls
    assert {raised.value.job_id, JOB, "low", "acme"} <= set(submitted.args)
    known = [[FLIGHT.encode(), b"its-mark", JOB.encode()]]
    accepted = stage.play(replay(intake, JOB, {"job_id": raised.value.job_id}), known)
    assert (accepted.job, accepted.flight, accepted.mark) == (raised.value.job_id, FLIGHT, "its-mark")
