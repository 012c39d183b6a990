"""Dead letters, with a server and without: the fakes of `genqueue.testing` are held to the real ones."""

import pytest

from genqueue.errors import InvalidRequest, JobFailed, JobNotFound
from genqueue.testing import fail, hold, retry

from .conformance_sides import SIDES

MODEL = "gemini-2.5-flash"


@pytest.fixture(params=SIDES)
def side(request, database_url, prefix):
    """One kind of client after the other."""
    made = SIDES[request.param](database_url, prefix)
    yield made
    made.close()


def test_a_dead_letter_is_kept_with_its_history(side):
    """Found by every job aboard; what the provider refused for good, or answered, is none."""
    side.script(["Ye", retry("UNAVAILABLE"), hold(), fail("INTERNAL", "broken", retryable=True)], fail("SAFETY", "no"))
    first = side.submit("What?", model=MODEL, lane="low", tenant="acme")
    second = side.submit("What?", model=MODEL, lane="low", tenant="acme")
    side.release()
    refused = side.submit("What now?", model=MODEL)
    with pytest.raises(JobFailed, match=rf"INTERNAL: broken .*genqueue dead show {first.id}"):
        first.result()
    (letter,) = side.client.dead()
    assert set(letter.job_ids) == {first.id, second.id}
    assert (letter.code, letter.message, letter.lane, letter.tenant) == ("INTERNAL", "broken", "low", "acme")
    assert (letter.attempts, letter.losses, letter.replayable) == (2, 0, True)
    assert [(one.attempt, one.outcome, one.code) for one in letter.history] == [
        (1, "retry", "UNAVAILABLE"),
        (2, "failed", "INTERNAL"),
    ]
    assert letter.kept_until - letter.ended_at == pytest.approx(14 * 86_400, abs=1)
    for job in (first, second):
        found = side.client.dead_letter(job.id, with_request=True)
        assert (found.job_id, found.flight, found.request["model"]) == (job.id, letter.flight, MODEL)
    assert side.client.dead_letter(first.id).request is None
    assert [side.client.dead(tenant=tenant) for tenant in ("acme", "other")] == [[letter], []]
    with pytest.raises(InvalidRequest, match="refused for good"):
        side.client.dead_letter(refused.id)


def test_a_replay_is_a_new_job(side):
    """Each call one, but under one key or id; with the dead job's tenant and lane, as long as the letter is there."""
    dead = fail("INTERNAL", "broken", retryable=True)
    side.script(dead, "One.", "Two.", "Three.")
    job = side.submit("What?", model=MODEL, lane="low", tenant="acme", share="none", on_interrupt="fail")
    jobs = [side.replay(job.id) for _ in range(2)]
    assert sorted(one.text() for one in jobs) == ["One.", "Two."]
    status = jobs[0].status()
    assert (status.replayed_from, status.lane, status.tenant) == (job.id, "low", "acme")
    assert job.status().replayed_from == ""
    keyed = [side.replay(job.id, idempotency_key="k", lane="high") for _ in range(2)]
    assert keyed[0].id == keyed[1].id
    assert keyed[0].status().lane == "high"
    assert (side.client.drop(job.id), side.client.drop(job.id)) == (True, False)
    assert side.client.dead() == []
    with pytest.raises(InvalidRequest, match="somebody dropped it"):
        side.replay(job.id)
    # whoever was uncertain asks again, also when the letter has gone since
    assert side.replay(job.id, job_id=jobs[0].id).id == jobs[0].id


def test_what_cannot_be_replayed_says_why(side):
    """By the field, and before anything is queued."""
    side.script(fail("INTERNAL", "broken", retryable=True), "Yes.")
    unkept, done = (side.submit(text, model=MODEL, store="none") for text in ("1", "2"))
    side.hold()
    left = side.submit("3", model=MODEL)
    left.cancel()
    assert side.client.dead_letter(unkept.id).replayable is False
    for job, words in ((unkept, "store='none'"), (done, "succeeded"), (left, "cancelled")):
        with pytest.raises(InvalidRequest, match=f"^job_id.*{words}"):
            side.replay(job.id)
    assert side.client.drop(done.id) is side.client.drop(left.id) is False
    for wrong in ({"tenant": "acme"}, {"temperature": 1}, {"lane": "urgent"}):
        with pytest.raises(InvalidRequest, match=f"^{next(iter(wrong))}"):
            side.client.replay(unkept.id, **wrong)
    for operation in (side.client.dead_letter, side.client.replay, side.client.drop):
        with pytest.raises(JobNotFound):
            operation(side.keys.new_id())
