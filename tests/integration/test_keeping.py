"""How long things are kept and how often they are tried: by setting, and by job."""

import pytest

from genqueue import ledger
from genqueue.errors import JobFailed, JobNotFound, StreamGone
from genqueue.keys import Keys

from .client_sides import CLIENTS, HandWorker

MODEL = "gemini-2.5-flash"
DAY = 86_400_000


@pytest.fixture(params=CLIENTS)
def client(request, database_url, prefix):
    """One client after the other, of a deployment with settings that no job's option repeats."""
    kept = {"stream_ttl": 500.0, "result_ttl": 700.0, "cache_ttl": 900.0, "max_tries": 3, "max_losses": 2}
    made = CLIENTS[request.param](data_url=database_url, key_prefix=prefix, deadline_low=5000.0, **kept)
    yield made
    made.close()


@pytest.fixture
def worker(database_url, prefix):
    """Return a worker that does what it is told."""
    made = HandWorker(database_url, Keys(prefix))
    yield made
    made.redis.close()


def left(worker, key):
    """Return what a key has left to live, in whole seconds, rounded up."""
    return -(-worker.redis.pttl(key) // 1000)


def cache_key(worker, job):
    """Return the key of the cached answer of a job's question."""
    fingerprint = worker.redis.hget(worker.keys.flight(worker.flight(job)), "fingerprint").decode()
    return f"{worker.keys.slot_of_id(job.id)}cache:{fingerprint}"


@pytest.mark.parametrize(
    ("options", "stream", "result", "cache"),
    [({}, 500, 700, 900), ({"stream_ttl": 50, "result_ttl": 70.5, "cache_ttl": 90}, 50, 71, 90)],
)
def test_an_answer_is_kept_as_asked_for(client, worker, options, stream, result, cache):
    """Stream, result and cached answer each have a time of their own, from the end on."""
    job = client.submit("hello", model=MODEL, **options)
    worker.take(job).succeed()
    assert left(worker, job.stream_key) == stream
    assert left(worker, worker.keys.flight(worker.flight(job))) == result
    assert left(worker, cache_key(worker, job)) == cache
    assert worker.redis.pttl(worker.keys.job(job.id)) > result * 1000


def test_a_result_outlives_its_stream(client, worker):
    """When the stream is gone `result` and `status` still work, and nobody is given half a stream."""
    job = client.submit("hello", model=MODEL, stream_ttl=0.001)
    shift = worker.take(job)
    shift.say("Y", "es.")
    first = next(iter(job.tail(timeout=5)))
    shift.succeed("Yes.")
    while worker.redis.exists(job.stream_key):
        pass
    known = client.job(job.id)
    assert known.result(5).text == "Yes."
    assert known.status().state == "succeeded"
    for after in (None, first, first.id):
        with pytest.raises(StreamGone, match=job.id):
            list(known.tail(after, timeout=5))


def test_a_result_that_is_over_is_not_found(client, worker):
    """As is the job, once its deadline has passed as well."""
    job = client.submit("hello", model=MODEL, stream_ttl=0.001, result_ttl=0.001, deadline=0.2)
    worker.take(job).succeed()
    while worker.redis.exists(worker.keys.flight(worker.flight(job))):
        pass
    with pytest.raises((JobNotFound, StreamGone)):
        client.job(job.id).result(5)


def test_a_cached_answer_that_is_over_is_asked_for_again(client, worker):
    """The next to ask starts a flight."""
    job = client.submit("hello", model=MODEL, cache_ttl=0.001)
    worker.take(job).succeed()
    while worker.redis.exists(cache_key(worker, job)):
        pass
    assert client.submit("hello", model=MODEL).status().state == "queued"


@pytest.mark.parametrize(("options", "tries"), [({}, 3), ({"max_tries": 1}, 1), ({"max_tries": 5}, 5)])
def test_a_call_is_tried_as_often_as_asked_for(client, worker, options, tries):
    """The last failure is the end."""
    job = client.submit("hello", model=MODEL, lane="low", **options)
    for done in range(1, tries):
        worker.take(job).retry()
        assert (job.status().state, job.status().tries) == ("waiting", done)
        worker.sweep(job, worker.server_ms() + done * 100_000)
    shift = worker.take(job)
    settlement = ledger.Settlement(worker.flight(job), shift.token, "retry", 1, detail={"code": "UNAVAILABLE"})
    assert ledger.parse_settle(shift._run(ledger.settle(worker.keys, settlement))).status == "failed"
    with pytest.raises(JobFailed, match="UNAVAILABLE"):
        job.result(5)


@pytest.mark.parametrize(("options", "losses"), [({}, 2), ({"max_losses": 1}, 1)])
def test_workers_may_be_lost_as_often_as_asked_for(client, worker, options, losses):
    """The last loss of one that ran alone is the end."""
    job = client.submit("hello", model=MODEL, lane="low", **options)
    for lost in range(1, losses + 1):
        worker.take(job, alone=True)
        # A first sweep finds the fleet to have been away, and gives every holder one more lease.
        for minutes in (2, 4):
            worker.sweep(job, worker.server_ms() + (10 * lost + minutes) * 60_000)
    with pytest.raises(JobFailed, match="worker_lost"):
        job.result(5)


@pytest.mark.parametrize(("options", "seconds"), [({}, 5000), ({"deadline": 1234.5}, 1234.5)])
def test_a_deadline_is_the_lanes_or_the_jobs(client, worker, options, seconds):
    """And everything of a job that waits is kept until then, and as long as its result would be."""
    job = client.submit("hello", model=MODEL, lane="low", **options)
    assert job.status().deadline == pytest.approx(worker.server_ms() / 1000 + seconds, abs=5)
    for key in (job.stream_key, worker.keys.flight(worker.flight(job)), worker.keys.job(job.id)):
        assert worker.redis.pttl(key) / 1000 >= seconds + 700 - 5


@pytest.mark.parametrize(("options", "kept"), [({}, True), ({"store": "request"}, True), ({"store": "none"}, False)])
def test_a_failed_jobs_prompt_is_kept_unless_told_otherwise(client, worker, options, kept):
    """For `dead_ttl`, two weeks; with store="none" it is gone with the end, as after every other end."""
    key = worker.keys.flight
    failed = client.submit("hello", model=MODEL, **options)
    assert b"hello" in worker.redis.hget(key(worker.flight(failed)), "request")
    worker.take(failed).fail(code="INVALID_ARGUMENT", message="no", retryable="0")
    assert worker.redis.hexists(key(worker.flight(failed)), "request") == kept
    assert left(worker, key(worker.flight(failed))) == (14 * DAY // 1000 if kept else 700)
    done, cancelled = client.submit("one", model=MODEL, **options), client.submit("two", model=MODEL, **options)
    worker.take(done).succeed()
    cancelled.cancel()
    for job in (done, cancelled):
        assert not worker.redis.hexists(key(worker.flight(job)), "request")


def test_one_who_keeps_nothing_speaks_for_all_aboard(client, worker):
    """A prompt that one member wants stored nowhere is stored for none."""
    first = client.submit("hello", model=MODEL)
    second = client.submit("hello", model=MODEL, store="none")
    assert worker.flight(first) == worker.flight(second)
    worker.take(first).fail(code="INVALID_ARGUMENT", message="no", retryable="0")
    assert not worker.redis.hexists(worker.keys.flight(worker.flight(first)), "request")


def test_a_prompt_of_a_million_tokens_is_stored_compressed(client, worker):
    """Four megabytes of text are accepted, and come out as they went in."""
    prompt = "Lorem ipsum dolor sit amet, consectetur. " * 100_000
    job = client.submit(prompt, model=MODEL)
    stored = worker.redis.hget(worker.keys.flight(worker.flight(job)), "request")
    assert stored[:1] == b"z"
    assert len(stored) < len(prompt) / 20
    shift = worker.take(job)
    shift.succeed("Long.")
    assert job.text(5) == "Long."
