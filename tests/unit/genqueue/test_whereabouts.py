"""Finding jobs by what Flower shows."""

import pytest

from genqueue.errors import JobNotFound
from genqueue.keys import Keys
from genqueue.reservation import Reservation
from genqueue.whereabouts import find

KEYS = Keys()
FLIGHT = "3-" + "f" * 20
JOB, OTHER = "3-" + "a" * 20, "3-" + "b" * 20


def test_a_jobs_own_id_leads_to_it(stage):
    """In one round trip."""
    assert stage.play(find(KEYS, JOB, "default"), [1, []]) == [JOB]
    assert len(stage.steps) == 1


@pytest.mark.parametrize("name", [FLIGHT, f"{FLIGHT}.1795326545390"])
def test_a_flight_and_its_task_lead_to_all_aboard(stage, name):
    """The task's id is the flight's and a stamp."""
    assert stage.play(find(KEYS, name, "default"), [0, [JOB.encode(), OTHER.encode()]]) == [JOB, OTHER]
    assert [command[1] for command in stage.steps[0].commands] == [KEYS.job(FLIGHT), KEYS.members(FLIGHT)]


def test_the_task_that_admitted_a_job_leads_to_it(stage):
    """By the idempotency key it took, which is its tenant's."""
    place = Reservation(JOB, 1, 1, "r")
    assert stage.play(find(KEYS, "5e9ed1ea-4b27", "acme"), [place.stored]) == [JOB]
    assert stage.steps[0].commands == (("GET", KEYS.idempotency("acme", "celery:5e9ed1ea-4b27")),)


@pytest.mark.parametrize(("name", "reply"), [(FLIGHT, [0, []]), ("nonsense", [None]), ("a.5", [None])])
def test_what_leads_nowhere_is_not_found(stage, name, reply):
    """With the name as it was given."""
    with pytest.raises(JobNotFound, match=name):
        stage.play(find(KEYS, name, "default"), reply)
