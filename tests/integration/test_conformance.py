"""What every client does, with a server and without: the fakes of `genqueue.testing` are held to the real ones."""

import itertools
import time

import pytest

from genqueue.errors import (
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    StreamGone,
    WaitTimeout,
)
from genqueue.events import text_of
from genqueue.testing import DEFAULT_ANSWER, fail, finish, hold, lose, part, retry, thought

from .conformance_sides import SIDES

MODEL = "gemini-2.5-flash"
CALL = {"functionCall": {"name": "look_up", "args": {"city": "Łódź"}}}


@pytest.fixture(params=SIDES)
def side(request, database_url, prefix):
    """One kind of client after the other."""
    made = SIDES[request.param](database_url, prefix)
    yield made
    made.close()


def types(events):
    """Return the types of events."""
    return [event.type for event in events]


def there(job, after=None):
    """Return the events that are there."""
    events, seen = job.tail(after, timeout=0), []
    with pytest.raises(WaitTimeout):
        seen.extend(kept(events, seen))
    return seen


def kept(events, into):
    """Put events into a list one by one, so that those in front of an error are kept."""
    for event in events:
        into += [event]
    return ()


def test_an_answer_is_streamed_and_then_whole(side):
    """Events in order, then the folded result with all its fields, for its owner and for whoever has the id."""
    side.script(["Ye", thought("Hm"), thought("m."), "s.", part(CALL), finish(usage={"output_tokens": 5})])
    job = side.submit("What?", model=MODEL)
    events = list(job.tail())
    assert types(events) == ["queued", "started", "delta", "thought", "thought", "delta", "part", "completed"]
    assert [(event.attempt, event.n) for event in events] == [(0, 0), *((1, n) for n in range(1, 7)), (1, 0)]
    assert events[1].fields["model"] == MODEL
    assert "".join(event.thought or "" for event in events) == "Hmm."
    assert events[6].part == CALL
    result = job.result()
    assert (result.job_id, result.source, result.model, result.attempts) == (job.id, "live", MODEL, 1)
    assert (result.text, result.finish_reason, result.usage.output_tokens) == ("Yes.", "STOP", 5)
    assert result.content == {
        "role": "model",
        "parts": [{"text": "Ye"}, {"text": "Hmm.", "thought": True}, {"text": "s."}, CALL],
    }
    assert set(result.timings) == {"queued", "ttft", "total"}
    assert text_of(events) == job.text() == side.client.job(job.id).text() == "Yes."
    assert [event.id for event in side.client.job(job.id).tail()] == [event.id for event in events]


def test_a_job_says_where_it_is(side):
    """Queued, running, at its end; with what it was submitted with."""
    side.hold()
    job = side.submit("What?", model=MODEL, lane="low", tenant="acme", deadline=60)
    status = job.status()
    assert (status.state, status.lane, status.tenant, status.attempt, status.ended) == (
        "queued",
        "low",
        "acme",
        0,
        False,
    )
    assert status.deadline == pytest.approx(time.time() + 60, abs=5)
    assert types(there(job)) == ["queued"]
    assert side.messages() == 1
    side.script(["Yes.", hold()])
    side.release()
    assert (job.status().state, job.status().attempt) == ("running", 1)
    assert types(there(job)) == ["queued", "started", "delta"]
    side.release()
    assert (job.status().state, job.status().ended) == ("succeeded", True)
    assert types(job.tail()) == ["queued", "started", "delta", "completed"]


def test_equal_questions_share_one_answer(side):
    """Both see one stream to its end; the provider is asked once."""
    side.script(["Yes.", hold()], "No.")
    first = side.submit("What?", model=MODEL)
    second = side.submit(["What?"], model=MODEL)
    assert first.id != second.id
    assert first.stream_key == second.stream_key
    side.release()
    assert list(first.tail()) == list(second.tail())
    assert (first.text(), second.text()) == ("Yes.", "Yes.")


@pytest.mark.parametrize("difference", [{"tenant": "other"}, {"share": "none"}, {"temperature": 0.1}])
def test_another_question_or_tenant_is_answered_by_itself(side, difference):
    """Nothing is shared."""
    side.script("Yes.", "No.")
    assert side.submit("What?", model=MODEL).text() == "Yes."
    other = side.submit("What?", model=MODEL, **difference)
    assert (other.text(), other.result().source) == ("No.", "live")


def test_a_known_answer_is_given_at_once(side):
    """From the cache, as a stream and as a result; unless it is told not to."""
    side.script(["Ye", "s."], "No.", "Never.")
    side.submit("What?", model=MODEL).text()
    side.hold()
    again = side.submit("What?", model=MODEL)
    assert side.messages() == 0
    assert again.status().state == "succeeded"
    events = list(again.tail())
    assert (types(events)[0], types(events)[-1]) == ("queued", "completed")
    assert events[-1].fields["source"] == again.result().source == "cache"
    assert again.text() == text_of(events) == "Yes."
    side.release()
    assert side.submit("What?", model=MODEL, cache="refresh").text() == "No."
    assert side.submit("What?", model=MODEL).text() == "No."
    assert side.submit("What?", model=MODEL, cache="off").text() == "Never."


def test_an_answer_that_broke_off_is_not_kept(side):
    """The next one who asks is answered anew."""
    side.script(["Ye", finish("MAX_TOKENS")], "Yes.")
    first = side.submit("What?", model=MODEL).result()
    assert (first.text, first.finish_reason) == ("Ye", "MAX_TOKENS")
    assert side.submit("What?", model=MODEL).text() == "Yes."


def test_a_lost_worker_begins_anew(side):
    """Readers are told, the text before it is void, and the result is the last attempt's."""
    side.script(["Ye", "s", lose(), "No.", lose(), "Maybe."])
    job = side.submit("What?", model=MODEL)
    events = list(job.tail())
    assert types(events) == [
        *("queued", "started", "delta", "delta"),
        *("restarted", "started", "delta"),
        *("restarted", "started", "delta", "completed"),
    ]
    assert [event.fields["reason"] for event in events if event.type == "restarted"] == ["lost", "lost"]
    assert text_of(events) == job.text() == "Maybe."
    assert (job.result().attempts, job.status().losses, job.status().tries) == (3, 2, 0)


def test_too_many_lost_workers_end_a_job(side):
    """As a failure that may be repeated: after two losses beside others it runs alone, and ends with two more."""
    side.script([lose(), lose(), lose(), lose(), "Yes."])
    job = side.submit("What?", model=MODEL, max_losses=2)
    with pytest.raises(JobFailed) as raised:
        job.result()
    assert (raised.value.code, raised.value.retryable) == ("worker_lost", True)


def test_a_failed_try_is_followed_by_another(side):
    """The wait has its reason and its code, and is counted as a try."""
    side.script(["Ye", retry("UNAVAILABLE"), "Yes."])
    job = side.submit("What?", model=MODEL)
    events = list(job.tail())
    assert types(events) == ["queued", "started", "delta", "waiting", "restarted", "started", "delta", "completed"]
    waiting = events[3].fields
    assert (waiting["reason"], waiting["code"]) == ("retry", "UNAVAILABLE")
    assert job.text() == "Yes."
    assert (job.status().tries, job.status().losses, job.result().attempts) == (1, 0, 2)


def test_the_last_try_that_fails_is_the_end(side):
    """With the provider's code and words."""
    side.script([retry("UNAVAILABLE", "busy"), retry("INTERNAL", "broken"), "Yes."])
    job = side.submit("What?", model=MODEL, max_tries=2)
    with pytest.raises(JobFailed, match="broken") as raised:
        job.result()
    assert (raised.value.code, raised.value.retryable) == ("INTERNAL", True)
    assert job.status().tries == 2


def test_a_job_between_two_tries_waits(side):
    """Until the moment its event says."""
    side.script([retry(delay=30), "Yes."])
    job = side.submit("What?", model=MODEL)
    assert job.status().state == "waiting"
    waiting = there(job)[-1]
    assert int(waiting.fields["until"]) / 1000 == pytest.approx(time.time() + 30, abs=5)


@pytest.mark.parametrize("retryable", [False, True])
def test_a_failure_has_the_providers_code_and_words(side, retryable):
    """In the stream and as an error; it is not kept for others."""
    side.script(fail("INVALID_ARGUMENT", "No such thing.", retryable=retryable), "Yes.")
    job = side.submit("What?", model=MODEL)
    with pytest.raises(JobFailed, match=r"No such thing\.") as raised:
        job.result()
    error = raised.value
    assert (error.job_id, error.code, error.message) == (job.id, "INVALID_ARGUMENT", "No such thing.")
    assert error.retryable is retryable
    last = list(job.tail())[-1]
    assert (last.type, last.fields["code"], job.status().state) == ("failed", "INVALID_ARGUMENT", "failed")
    assert side.submit("What?", model=MODEL).text() == "Yes."


def test_a_reader_resumes_behind_any_event(side):
    """By the event or by its id, each time with exactly what follows."""
    side.script(["a", "b", lose(), "c", "d"])
    job = side.submit("What?", model=MODEL)
    events = list(job.tail())
    for index, event in enumerate(events):
        assert list(job.tail(event)) == list(side.client.job(job.id).tail(event.id)) == events[index + 1 :]


def test_a_reader_hears_what_comes_later(side):
    """He waits for it behind what was there."""
    side.script(["a", hold(), "b", hold(), "c"])
    job = side.submit("What?", model=MODEL)
    following = job.tail(timeout=20)
    assert types(itertools.islice(following, 3)) == ["queued", "started", "delta"]
    side.release()
    second = next(following)
    side.release()
    assert [second.text, *(event.text for event in following)] == ["b", "c", None]
    assert text_of(job.tail(second)) == "c"


@pytest.mark.parametrize("after", ["soon", "1-", 5])
def test_what_is_no_position_is_refused(side, after):
    """By name."""
    job = side.submit("What?", model=MODEL)
    with pytest.raises(InvalidRequest, match="after"):
        list(job.tail(after))


def test_cancelling_ends_a_job_for_good(side):
    """Once; what the worker says later is void, and the next one who asks is answered."""
    side.script(["Ye", hold(), "s."], "No.")
    job = side.submit("What?", model=MODEL)
    assert job.cancel() is True
    assert job.cancel() is False
    side.release()
    assert job.status().state == "cancelled"
    assert types(job.tail()) == ["queued", "started", "delta", "cancelled"]
    with pytest.raises(JobCancelled, match=job.id):
        job.result()
    assert side.submit("What?", model=MODEL).text() == "No."


@pytest.mark.parametrize("state", ["queued", "waiting"])
def test_cancelling_waits_for_nobody(side, state):
    """Whoever has no worker at the moment ends at once, and readers are told."""
    side.script([retry(delay=60), "Yes."])
    if state == "queued":
        side.hold()
    job = side.submit("What?", model=MODEL)
    assert job.status().state == state
    assert job.cancel() is True
    assert (job.status().state, list(job.tail())[-1].type) == ("cancelled", "cancelled")
    side.release()
    assert job.status().state == "cancelled"


def test_cancelling_one_of_two_leaves_the_other(side):
    """Who left sees its own end, who stayed sees nothing of it and gets the answer."""
    side.script(["Yes.", hold()])
    leaver, stayer = (side.submit("What?", model=MODEL) for _ in range(2))
    assert leaver.cancel() is True
    side.release()
    assert types(leaver.tail()) == ["queued", "started", "delta", "left"]
    assert types(stayer.tail()) == ["queued", "started", "delta", "completed"]
    assert (leaver.status().state, stayer.status().state, stayer.text()) == ("cancelled", "succeeded", "Yes.")
    with pytest.raises(JobCancelled):
        leaver.result()
    assert stayer.cancel() is False


@pytest.mark.parametrize("running", [False, True])
def test_a_job_past_its_deadline_has_expired(side, running):
    """Whether or not somebody works on it, whoever waits is told."""
    side.script(["Ye", hold(), "s."])
    if not running:
        side.hold()
    job = side.submit("What?", model=MODEL, deadline=30)
    side.pass_deadline(job, 31)
    with pytest.raises(JobExpired, match=job.id):
        job.result()
    assert list(job.tail())[-1].type == job.status().state == "expired"
    assert job.cancel() is False
    side.release()
    assert job.status().state == "expired"


def test_a_timeout_is_the_callers_own(side):
    """The job goes on; what is there comes before it."""
    side.script(["Yes.", hold()])
    job = side.submit("What?", model=MODEL)
    for wait in (lambda: job.result(0.01), lambda: job.text(0), lambda: list(job.tail(timeout=0.01))):
        with pytest.raises(WaitTimeout, match=job.id):
            wait()
    assert types(there(job)) == ["queued", "started", "delta"]
    side.release()
    assert job.text(0) == "Yes."
    assert types(job.tail(timeout=0)) == ["queued", "started", "delta", "completed"]


def test_what_nobody_knows_is_not_found(side):
    """Every operation says so; what is no id at all is refused sooner."""
    unknown = side.client.job(side.keys.new_id())
    for operation in (unknown.result, unknown.status, unknown.cancel, lambda: list(unknown.tail())):
        with pytest.raises(JobNotFound, match=unknown.id):
            operation()
    with pytest.raises(InvalidRequest, match="job_id"):
        side.client.job("17")


def test_a_wrong_request_leaves_no_trace(side):
    """It is refused by name before anything is sent."""
    with pytest.raises(InvalidRequest, match="temperature"):
        side.submit("What?", model=MODEL, temperature=9)
    with pytest.raises(InvalidRequest, match="lane"):
        side.submit("What?", model=MODEL, lane="urgent")
    assert side.redis.dbsize() == 0


def test_a_result_outlives_its_stream(side):
    """Readers are told which is gone."""
    side.script("Yes.")
    job = side.submit("What?", model=MODEL)
    first = next(iter(job.tail()))
    side.redis.pexpire(job.stream_key, 0)
    for after in (None, first):
        with pytest.raises(StreamGone, match="try result"):
            list(job.tail(after))
    assert job.text() == side.client.job(job.id).text() == "Yes."


def test_an_idempotency_key_gives_the_same_job(side):
    """For the same request; for another one it is an error."""
    side.script("Yes.", "No.")
    first = side.submit("What?", model=MODEL, idempotency_key="order-7", share="none")
    again = side.submit("What?", model=MODEL, idempotency_key="order-7", share="none")
    assert (again.id, again.text()) == (first.id, "Yes.")
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        side.submit("What now?", model=MODEL, idempotency_key="order-7", share="none")
    assert side.submit("What?", model=MODEL, idempotency_key="order-8", share="none").text() == "No."


def test_an_id_made_before_names_one_job(side):
    """However often it is submitted."""
    side.script("Yes.", "No.")
    job_id = side.client.new_job_id("What?", model=MODEL)
    jobs = [side.submit("What?", model=MODEL, job_id=job_id) for _ in range(2)]
    assert [job.id for job in jobs] == [job_id] * 2
    assert [job.text() for job in jobs] == ["Yes."] * 2
    assert jobs[0].result().source == "live"


def test_many_are_submitted_at_once(side):
    """For each item, in order, its job or what is wrong with it."""
    side.script("one", "two")
    items = [
        {"contents": "1"},
        {"contents": "2", "temperature": 9},
        {"contents": "3", "lane": "high"},
        {"contents": "1"},
    ]
    first, wrong, third, joined = side.submit_many(items, model=MODEL, lane="low")
    assert isinstance(wrong, InvalidRequest)
    assert sorted([first.text(), third.text()]) == ["one", "two"]
    assert joined.text() == first.text()
    assert (first.status().lane, third.status().lane) == ("low", "high")


def test_a_purged_job_is_forgotten(side):
    """With its answer; a second time there is nothing to forget."""
    side.script("Yes.", "No.")
    job = side.submit("What?", model=MODEL)
    assert job.text() == "Yes."
    assert side.client.purge(job.id) is True
    assert side.client.purge(job.id) is False
    with pytest.raises(JobNotFound):
        side.client.job(job.id).result()
    assert side.submit("What?", model=MODEL).text() == "No."


def test_ended_jobs_are_handed_out_once(side):
    """To one consumer of a group, with how they ended, oldest first."""
    side.script("Yes.", fail("SAFETY", "no"))
    jobs = [side.submit(text, model=MODEL, tenant="acme") for text in ("1", "2")]
    side.hold()
    jobs.append(side.submit("3", model=MODEL))
    jobs[2].cancel()
    feed = side.client.finished("billing", "one")
    found = {ended.job_id: ended for ended in itertools.islice(feed, 3)}
    feed.close()
    assert [found[job.id].state for job in jobs] == ["completed", "failed", "cancelled"]
    assert found[jobs[0].id].tenant == "acme"


def test_the_default_answer_is_as_stated(side):
    """For whatever nothing was scripted for."""
    assert side.submit("What?", model=MODEL).text() == DEFAULT_ANSWER
