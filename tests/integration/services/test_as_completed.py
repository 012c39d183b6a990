"""Many jobs in the order of their ends, on a real server; a worker's part is played by ledger calls."""

import asyncio
import threading

import pytest
import redis
from acceptance_workers import wait_until

from genqueue import AsyncClient, Client, JobFailed, WaitTimeout, as_completed
from genqueue.errors import InvalidRequest, JobNotFound

MODEL = "gemini-2.5-flash"
MANY = 1000


@pytest.fixture
def client(settings):
    """A blocking client."""
    with Client(**settings) as made:
        yield made


def ask(client, count):
    """Submit some questions."""
    outcomes = client.submit_many([{"contents": f"Question {n}?"} for n in range(count)], model=MODEL)
    assert all(hasattr(outcome, "id") for outcome in outcomes)
    return outcomes


def test_jobs_come_as_they_end_however_they_end(client, worker):
    """Also those that ended before, failed, were cancelled, or are known to nobody."""
    done, failing, cancelled, last = ask(client, 4)
    nobody = client.job("3-" + "0" * 20)
    worker.take(done).succeed()
    coming = as_completed([last, failing, nobody, done, cancelled])
    assert {next(coming), next(coming)} == {nobody, done}
    worker.take(failing).fail(code="BAD")
    assert next(coming) is failing
    cancelled.cancel()
    assert next(coming) is cancelled
    worker.take(last).succeed()
    assert list(coming) == [last]
    with pytest.raises(JobFailed):
        failing.result(timeout=0)
    with pytest.raises(JobNotFound):
        nobody.result(timeout=0)


def test_the_timeout_lets_those_that_have_ended_come_first(client, worker):
    """Then it says for which job it waited."""
    done, waiting = ask(client, 2)
    worker.take(done).succeed()
    coming = as_completed([waiting, done], timeout=0)
    assert next(coming) is done
    with pytest.raises(WaitTimeout, match=waiting.id):
        next(coming)


def test_handles_come_once_each(client, worker):
    """The same handle given twice is one; two handles of a job are two."""
    (job,) = ask(client, 1)
    other = client.job(job.id)
    worker.take(job).succeed()
    assert set(as_completed([job, other, job])) == {job, other}
    assert len(list(as_completed([job, other, job]))) == 2


async def test_no_jobs_end_at_once(client):
    """In either way of asking."""
    assert list(as_completed([])) == []
    assert [job async for job in as_completed([])] == []


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5"])
def test_a_timeout_is_some_seconds(timeout):
    """Or None."""
    with pytest.raises(InvalidRequest, match=r"^timeout"):
        as_completed([], timeout)


def test_jobs_are_of_one_kind(client, settings):
    """Either to be waited for, or to be awaited."""
    (job,) = ask(client, 1)
    for jobs in ([job, AsyncClient(**settings).job(job.id)], [job.id]):
        with pytest.raises(InvalidRequest, match=r"^jobs"):
            as_completed(jobs)


def listened(raw, prefix):
    """Return how many bells of a deployment somebody listens to."""
    return len(raw.pubsub_channels(f"{prefix}:*bell*"))


@pytest.fixture
def raw(settings):
    """A connection to the server."""
    with redis.Redis.from_url(settings["data_url"]) as made:
        yield made


@pytest.fixture
def meanwhile(raw, prefix):
    """Do something in a thread once that many bells are listened to."""
    threads = []

    def start(count, action):
        def act():
            wait_until(lambda: listened(raw, prefix) >= count, what="a listener")
            action()

        threads.append(threading.Thread(target=act))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def test_a_thousand_jobs_wait_on_one_connection(client, worker, raw, prefix, meanwhile):
    """And whoever stops waiting listens no more."""
    jobs = ask(client, MANY)
    coming = as_completed([client.job(job.id) for job in jobs], timeout=60)
    first, *rest = jobs
    meanwhile(MANY, lambda: worker.take(first).succeed())
    assert next(coming).id == first.id
    assert len([one for one in raw.client_list() if int(one["sub"]) >= MANY - 1]) == 1
    for job in rest[:50]:
        worker.take(job).succeed()
    assert {next(coming).id for _ in range(50)} == {job.id for job in rest[:50]}
    coming.close()
    wait_until(lambda: not listened(raw, prefix), what="silence")


def test_clients_of_one_deployment_and_of_several(client, worker, make_worker, settings, prefix, meanwhile):
    """Whatever client a job is of."""
    elsewhere = {**settings, "key_prefix": f"{prefix}-else"}
    with Client(**settings) as second, Client(**elsewhere) as third:
        there = make_worker(elsewhere)
        mine, same, other = (
            client.submit("a", model=MODEL),
            second.submit("b", model=MODEL),
            third.submit("c", model=MODEL),
        )
        coming = as_completed([mine, same, other], timeout=20)
        there.take(other).succeed()
        assert next(coming) is other
        worker.take(same).succeed()
        assert next(coming) is same
        meanwhile(1, lambda: worker.take(mine).succeed())
        assert list(coming) == [mine]


async def test_the_asyncio_client_does_the_same(settings, worker, raw, prefix):
    """With `async for`; leaving it early is quiet."""
    elsewhere = {**settings, "key_prefix": settings["key_prefix"] + "-else"}
    async with AsyncClient(**settings) as client, AsyncClient(**elsewhere) as third:
        first, second = await client.submit("a", model=MODEL), await client.submit("b", model=MODEL)
        other = await third.submit("c", model=MODEL)
        keys = [await job.stream_key() for job in (first, second)]
        coming = as_completed([first, second, other], timeout=20)

        def succeed(key):
            worker.take(type("Known", (), {"stream_key": key})).succeed()

        await asyncio.to_thread(succeed, keys[1])
        assert await anext(coming) is second
        await asyncio.to_thread(succeed, keys[0])
        assert await anext(coming) is first
        await other.cancel()
        assert [job async for job in coming] == [other]
        waiting = await client.submit("d", model=MODEL)
        with pytest.raises(WaitTimeout):
            await anext(as_completed([waiting], timeout=0.1))
        unfinished = as_completed([waiting])
        reading = asyncio.ensure_future(anext(unfinished))
        await asyncio.to_thread(wait_until, lambda: listened(raw, prefix), what="a listener")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await unfinished.aclose()
