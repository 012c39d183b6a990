"""What both clients do on a real server; a worker's part is played by ledger calls."""

import asyncio
import itertools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from genqueue import AsyncClient, Client
from genqueue.errors import (
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    QueueFull,
    SettingsError,
    StreamGone,
    WaitTimeout,
)
from genqueue.events import text_of
from genqueue.keys import Keys
from genqueue_lab.servers import free_port

from .client_sides import CLIENTS, HandWorker, Shift

MODEL = "gemini-2.5-flash"


@pytest.fixture
def settings(database_url, prefix):
    """Settings of a deployment of the test's own."""
    return {"data_url": database_url, "key_prefix": prefix}


@pytest.fixture(params=CLIENTS)
def client(request, settings):
    """One client after the other."""
    made = CLIENTS[request.param](**settings)
    yield made
    made.close()


@pytest.fixture
def worker(database_url, prefix):
    """Return a worker that does what it is told."""
    made = HandWorker(database_url, Keys(prefix))
    yield made
    made.redis.close()


def types(job, after=None):
    """Return the types of the events that are there."""
    seen = []
    with pytest.raises(WaitTimeout):
        seen.extend(event.type for event in recorded(seen, job.tail(after, timeout=0)))
    return seen


def recorded(into, events):
    """Put events into a list as they come, so that those in front of an error are kept."""
    for event in events:
        into.append(event.type)
    return []


def queue(worker, lane="normal"):
    """Return how many messages the broker has for a lane."""
    return worker.redis.llen(f"generate.{lane}")


def test_a_new_job_is_in_the_ledger_and_on_its_queue(client, worker):
    """Accepted, announced, and where its status says."""
    job = client.submit("What?", model=MODEL, lane="low", tenant="acme", deadline=60)
    status = job.status()
    assert (status.state, status.lane, status.tenant, status.ended) == ("queued", "low", "acme", False)
    assert status.deadline == pytest.approx(worker.server_ms() / 1000 + 60, abs=5)
    assert queue(worker, "low") == 1
    assert types(job) == ["queued"]


def test_an_answer_is_streamed_and_then_whole(client, worker):
    """Events in order, then the folded result, for its owner and for whoever has the id."""
    job = client.submit("What?", model=MODEL)
    shift = worker.take(job)
    assert job.status().state == "running"
    shift.say("Ye", "s.")
    shift.succeed("Yes.")
    events = list(job.tail())
    assert [event.type for event in events] == ["queued", "delta", "delta", "completed"]
    assert text_of(events) == job.text() == client.job(job.id).result().text == "Yes."
    assert job.result().source == "live"
    assert [event.id for event in client.job(job.id).tail()] == [event.id for event in events]
    assert job.status().state == "succeeded"


def test_an_equal_question_joins_and_costs_no_second_message(client, worker):
    """Both jobs see the one stream to its end."""
    first = client.submit("What?", model=MODEL)
    second = client.submit(["What?"], model=MODEL)
    assert first.id != second.id
    assert first.stream_key == second.stream_key
    assert queue(worker) == 1
    shift = worker.take(first)
    shift.succeed()
    assert list(first.tail()) == list(second.tail())
    assert second.text() == "Yes."


@pytest.mark.parametrize("difference", [{"tenant": "other"}, {"share": "none"}, {"temperature": 0.1}])
def test_another_question_or_tenant_never_joins(client, worker, difference):
    """Each has a stream and a message of its own."""
    first = client.submit("What?", model=MODEL)
    assert client.submit("What?", model=MODEL, **difference).stream_key != first.stream_key
    assert queue(worker) == 2


def test_a_known_answer_is_given_at_once(client, worker):
    """From the cache, as a stream and as a result, with no message; unless it is told not to."""
    worker.take(client.submit("What?", model=MODEL)).succeed("Yes.")
    again = client.submit("What?", model=MODEL)
    assert queue(worker) == 1
    assert again.status().state == "succeeded"
    events = list(again.tail())
    assert [event.type for event in events] == ["queued", "delta", "completed"]
    assert events[-1].fields["source"] == again.result().source == "cache"
    assert again.text() == text_of(events) == "Yes."
    for cache in ("off", "refresh"):
        assert client.submit("What?", model=MODEL, cache=cache, share="tenant").status().state == "queued"


def test_a_failure_has_the_providers_code_and_words(client, worker):
    """In the stream and as an error."""
    job = client.submit("What?", model=MODEL)
    worker.take(job).fail(code="INVALID_ARGUMENT", message="No such thing.", retryable="1")
    with pytest.raises(JobFailed, match=r"No such thing\.") as raised:
        job.result()
    assert (raised.value.code, raised.value.message, raised.value.retryable) == (
        "INVALID_ARGUMENT",
        "No such thing.",
        True,
    )
    assert raised.value.job_id == job.id
    assert list(job.tail())[-1].type == job.status().state == "failed"


def test_a_job_past_its_deadline_has_expired(client, worker):
    """Whoever waits is told, and the stream ends."""
    job = client.submit("What?", model=MODEL, deadline=30)
    worker.sweep(job, worker.server_ms() + 31_000)
    with pytest.raises(JobExpired, match=job.id):
        job.result()
    assert list(job.tail())[-1].type == job.status().state == "expired"
    assert job.cancel() is False


def test_a_job_that_waits_for_its_next_try_says_so(client, worker):
    """With the count of tries."""
    job = client.submit("What?", model=MODEL)
    worker.take(job).retry()
    status = job.status()
    assert (status.state, status.attempt, status.tries) == ("waiting", 1, 1)


def test_cancelling_ends_a_job_for_good(client, worker):
    """Once: the second time there is nothing left to end; what the worker says is void."""
    job = client.submit("What?", model=MODEL)
    shift = worker.take(job)
    assert job.cancel() is True
    assert job.cancel() is False
    assert job.status().state == "cancelled"
    assert [event.type for event in job.tail()] == ["queued", "cancelled"]
    with pytest.raises(JobCancelled, match=job.id):
        job.result()
    with pytest.raises(AssertionError):
        shift.say("too late")


def test_cancelling_one_of_two_leaves_the_other(client, worker):
    """Who left sees its own end, who stayed sees nothing of it and gets the answer."""
    leaver, stayer = (client.submit("What?", model=MODEL) for _ in range(2))
    shift = worker.take(stayer)
    shift.say("Yes.")
    assert leaver.cancel() is True
    shift.succeed()
    assert [event.type for event in leaver.tail()] == ["queued", "delta", "left"]
    assert [event.type for event in stayer.tail()] == ["queued", "delta", "completed"]
    assert stayer.text() == "Yes."
    assert (leaver.status().state, stayer.status().state) == ("cancelled", "succeeded")
    with pytest.raises(JobCancelled):
        leaver.result()
    assert stayer.cancel() is False


def test_a_result_outlives_its_stream(client, worker):
    """The stream has gone, the answer has not; readers are told which."""
    job = client.submit("What?", model=MODEL)
    worker.take(job).succeed("Yes.")
    first = next(iter(job.tail()))
    worker.redis.pexpire(job.stream_key, 0)
    for after in (None, first):
        with pytest.raises(StreamGone, match="try result"):
            list(job.tail(after))
    assert job.text() == client.job(job.id).text() == "Yes."


def test_after_the_retention_nobody_knows_the_job(client, worker):
    """The same error as for an id that never was."""
    job = client.submit("What?", model=MODEL)
    handle = client.job(job.id)
    for key in (worker.keys.job(job.id), worker.keys.flight(worker.flight(job)), job.stream_key):
        worker.redis.pexpire(key, 0)
    for forgotten in (handle, client.job(worker.keys.new_id())):
        for operation in (
            lambda one: list(one.tail()),
            *(lambda one, n=n: getattr(one, n)() for n in ("result", "status", "cancel")),
        ):
            with pytest.raises(JobNotFound, match=forgotten.id):
                operation(forgotten)
    for operation in (job.result, job.status, job.cancel):
        with pytest.raises(JobNotFound, match=job.id):
            operation()


@pytest.mark.parametrize("job_id", ["", "17", "99-0123456789abcdef0123", None, b"1-0123456789abcdef0123"])
def test_what_is_no_id_is_refused_before_any_server_is_asked(client, job_id):
    """A typo is told as such."""
    with pytest.raises(InvalidRequest):
        client.job(job_id)


@pytest.mark.parametrize("after", ["soon", "1-", 5])
def test_what_is_no_position_is_refused(client, after):
    """By name."""
    job = client.submit("What?", model=MODEL)
    with pytest.raises(InvalidRequest, match="after"):
        list(job.tail(after))


def test_a_wrong_request_leaves_no_trace(client, worker):
    """It is refused before anything is sent."""
    with pytest.raises(InvalidRequest, match="temperature"):
        client.submit("What?", model=MODEL, temperature=9)
    with pytest.raises(InvalidRequest, match=r"response_json_schema\.a"):
        client.submit("What?", model=MODEL, response_json_schema={"a": float("nan")})
    assert worker.redis.dbsize() == 0


def test_a_deadline_too_short_to_arrive_leaves_no_trace(client, worker, monkeypatch):
    """The field is named, and nothing was queued, however often the server's clock is asked."""
    moments = itertools.count(0, -3600)  # whenever the clock is read, an hour less
    clocks = SimpleNamespace(time=time.time, monotonic=lambda: next(moments))
    monkeypatch.setattr("genqueue.deployment.time", clocks)
    with pytest.raises(InvalidRequest, match="reached the server") as raised:
        client.submit("What?", model=MODEL, deadline=30)
    assert raised.value.field == "deadline"
    assert worker.redis.keys() == [worker.keys.meta().encode()]


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_wrong_clock_makes_no_wrong_deadline(client, worker, monkeypatch, skew):
    """Wrong from the start, or set while the client is running: the deadline is by the server's clock."""
    client_clock = SimpleNamespace(time=lambda: time.time() + skew, monotonic=time.monotonic)
    monkeypatch.setattr("genqueue.deployment.time", client_clock)
    job = client.submit("What?", model=MODEL, deadline=30)
    assert job.status().deadline == pytest.approx(worker.server_ms() / 1000 + 30, abs=5)
    client_clock.time = lambda: time.time() + skew - 3600
    job = client.submit("What now?", model=MODEL, deadline=30)
    assert job.status().deadline == pytest.approx(worker.server_ms() / 1000 + 30, abs=5)


def test_partitions_that_differ_from_the_deployments_are_refused(client, worker):
    """With both figures, and before anything is queued."""
    worker.redis.hset(worker.keys.meta(), mapping={"partitions": 8, "schema": 1})
    with pytest.raises(SettingsError, match="GENQUEUE_PARTITIONS: got 64, expected 8"):
        client.submit("What?", model=MODEL)
    assert worker.redis.dbsize() == 1


def test_a_broker_that_is_down_does_not_lose_a_job(request, settings, worker, caplog):
    """The job is accepted without waiting for it; the log says who publishes it instead, and what to check."""
    broker = f"redis://:secret@127.0.0.1:{free_port()}/0"
    for make in CLIENTS.values():
        client = make(**settings, broker_url=broker)
        request.addfinalizer(client.close)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "genqueue.dispatch"):
            started = time.monotonic()
            job = client.submit("What?", model=MODEL, share="none")
        assert time.monotonic() - started < 3
        assert job.status().state == "queued"
        assert [record.message.split()[0] for record in caplog.records] == ["dispatch.failed"]
        assert "check the broker" in caplog.text
        assert "secret" not in caplog.text


def test_a_server_short_of_memory_is_a_clear_error(own_server, prefix, request):
    """A submit it refuses raises ours, not redis's, and is not queued; what was accepted can still be read."""
    for make in CLIENTS.values():
        client = make(data_url=own_server.url(), key_prefix=prefix)
        request.addfinalizer(client.close)
        worker = HandWorker(own_server.url(), Keys(prefix))
        request.addfinalizer(worker.redis.close)
        job = client.submit("What?", model=MODEL, share="none")
        worker.redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(QueueFull, match="maxmemory"):
                client.submit("What now?", model=MODEL, share="none")
            assert job.status().state == "queued"
        finally:
            worker.redis.config_set("maxmemory", 0)


def test_threads_share_one_client(settings, worker):
    """Eight at once: every job accepted once, announced once, and each thread gets its own."""
    with Client(**settings) as client, ThreadPoolExecutor(8) as threads:

        def submit_some(thread):
            return [client.submit(f"{thread} {n}", model=MODEL, share="none") for n in range(25)]

        jobs = [job for made in threads.map(submit_some, range(8)) for job in made]
        states = list(threads.map(lambda job: job.status().state, jobs))
    assert len({job.id for job in jobs}) == len({job.stream_key for job in jobs}) == 200
    assert set(states) == {"queued"}
    assert queue(worker) == 200


def test_each_event_loop_has_its_own_client(settings, worker):
    """One after the other, in one process, with nothing left over from the last."""

    async def use():
        async with AsyncClient(**settings) as client:
            jobs = await asyncio.gather(*(client.submit(f"{n}", model=MODEL, share="none") for n in range(10)))
            return [(await job.status()).state for job in jobs]

    for _ in range(3):
        assert asyncio.run(use()) == ["queued"] * 10
    assert queue(worker) == 30


async def test_giving_up_on_a_wait_leaves_the_client_whole(settings, worker):
    """A reader cancelled in the middle of a read takes no reply away from those who come after it."""
    async with AsyncClient(**settings) as client:
        job = await client.submit("What?", model=MODEL)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await job.result()
        Shift(worker.redis, worker.keys, (await job.stream_key()).rpartition(":")[2]).succeed("Yes.")
        assert await job.text() == "Yes."
        assert [event.type async for event in job.tail()] == ["queued", "completed"]
