"""Deadlines that pass while no worker is alive: whoever waits for the job ends it, once, soon after."""

import asyncio
import random
import threading
import time
from contextlib import suppress

import pytest
import redis

from genqueue import AsyncClient, AsyncJob, Client, as_completed, ledger, scripts
from genqueue.errors import JobExpired
from genqueue.keys import Keys
from genqueue.reading import expiry
from genqueue.testing import AsyncMemoryClient, MemoryClient

from .client_sides import HandWorker

MODEL = "gemini-2.5-flash"
DEADLINE = 0.4
#: Seconds from a deadline to the last of those who wait for it, with something to spare on a busy machine.
SOON = expiry.GRACE + expiry.SPREAD + 1.5


@pytest.fixture
def blocking(database_url, prefix):
    """Return a blocking client."""
    with Client(data_url=database_url, key_prefix=prefix) as client:
        yield client


@pytest.fixture
async def looped(database_url, prefix):
    """Return an asyncio client."""
    async with AsyncClient(data_url=database_url, key_prefix=prefix) as client:
        yield client


@pytest.fixture
def hand(database_url, prefix):
    """Return a view on the server past the clients."""
    made = HandWorker(database_url, Keys(prefix))
    yield made
    made.redis.close()


async def _tailed(job):
    if isinstance(job, AsyncJob):
        return [event.type async for event in job.tail()]
    return await asyncio.to_thread(lambda: [event.type for event in job.tail()])


async def _resulted(job):
    with pytest.raises(JobExpired):
        await (job.result() if isinstance(job, AsyncJob) else asyncio.to_thread(job.result))


async def _completed(jobs):
    if isinstance(jobs[0], AsyncJob):
        return {job.id async for job in as_completed(jobs)}
    return await asyncio.to_thread(lambda: {job.id for job in as_completed(jobs)})


async def _wait_in_every_way(jobs):
    """Wait for four jobs with a deadline, each in another way; returns how many seconds that took."""
    began = time.monotonic()
    tail, result, *others = jobs
    waits = (_tailed(tail), _resulted(result), _completed(others))
    types, _, ended = await asyncio.gather(*waits)
    assert types == ["queued", "expired"]
    assert ended == {job.id for job in others}
    return time.monotonic() - began


async def test_whoever_waits_ends_the_job(blocking, looped):
    """By tail, result and as_completed, on both clients; a status that comes later finds it done."""
    contents = [{"contents": str(number), "model": MODEL, "deadline": DEADLINE} for number in range(8)]
    jobs = [await asyncio.to_thread(blocking.submit_many, contents[:4]), await looped.submit_many(contents[4:])]
    for seconds in await asyncio.gather(*map(_wait_in_every_way, jobs)):
        assert DEADLINE - 0.1 < seconds < DEADLINE + SOON
    assert {job.status().state for job in jobs[0]} == {(await job.status()).state for job in jobs[1]} == {"expired"}


async def test_a_status_ends_the_job_too(blocking, looped, hand):
    """What nobody waited for is expired when it is asked for, and its one end stands in the stream."""
    jobs = [blocking.submit("What?", model=MODEL, deadline=0.05, share="none")]
    jobs.append(await looped.submit("What?", model=MODEL, deadline=0.05, share="none"))
    key = await jobs[1].stream_key()
    await asyncio.to_thread(_wait_until, hand, jobs[1].id)
    assert [jobs[0].status().state, (await jobs[1].status()).state] == ["expired"] * 2
    assert [fields[b"type"] for _, fields in hand.redis.xrange(key)] == [b"queued", b"expired"]


def _wait_until(hand, job_id):
    """Wait until a job's deadline has passed by the server's clock."""
    deadline = int(hand.redis.hget(hand.keys.job(job_id), "deadline"))
    while hand.server_ms() <= deadline:
        pass


async def test_one_aboard_leaves_and_the_others_go_on(looped, hand):
    """The job whose deadline passes is told `left`; the flight's text goes on for who has more time."""
    long = await looped.submit("What?", model=MODEL, deadline=60)
    short = await looped.submit("What?", model=MODEL, deadline=DEADLINE)
    job = looped.job(long.id)
    shift = await asyncio.to_thread(hand.take, _Keyed(await job.stream_key()))
    assert (await _tailed(short))[-1] == "left"
    shift.say("Yes")
    shift.succeed("Yes")
    assert (await job.result()).text == "Yes"
    assert (await _tailed(long))[-1] == "completed"


class _Keyed:
    """A job as the worker looks at it."""

    def __init__(self, stream_key):
        self.stream_key = stream_key


async def test_a_job_that_ends_in_that_moment_is_right_too(looped, hand):
    """Cancelled, answered or expired around its deadline, by others: each reader is told the one end there is."""
    dice = random.Random(4)
    jobs = await looped.submit_many(
        [{"contents": str(n), "model": MODEL, "deadline": DEADLINE, "share": "none"} for n in range(24)]
    )
    keys = [await job.stream_key() for job in jobs]
    reading = [asyncio.create_task(_tailed(job)) for job in jobs]
    shifts = {}
    for number in range(0, len(keys), 3):
        with suppress(AssertionError):  # it may have expired
            shifts[number] = hand.take(_Keyed(keys[number]))

    def disturb():
        for number in dice.sample(range(len(jobs)), len(jobs)):
            time.sleep(dice.uniform(0.0, 0.06))  # spread over the moments around the deadline
            if number in shifts:
                with suppress(AssertionError):  # it may have expired
                    shifts[number].succeed()
            elif number % 3 == 1:
                scripts.run(hand.redis, ledger.leave(hand.keys, jobs[number].id, "cancelled"))

    await asyncio.to_thread(disturb)
    ends = [types[-1] for types in await asyncio.gather(*reading)]
    stories = [[fields[b"type"].decode() for _, fields in hand.redis.xrange(key)] for key in keys]
    assert ends == [story[-1] for story in stories]
    assert all(sum(kind in {"completed", "cancelled", "expired"} for kind in story) == 1 for story in stories)
    assert "expired" in ends


async def test_hundreds_of_tails_expire_without_a_storm(own_server, prefix):
    """Spread over half a second, each job ended by one call, and hardly more."""
    many = 300
    async with AsyncClient(data_url=own_server.url(), key_prefix=prefix, broker_url="memory://") as client:
        items = [{"contents": str(n), "model": MODEL, "share": "none", "deadline": 1.0} for n in range(many)]
        jobs = await client.submit_many(items)
        with redis.Redis.from_url(own_server.url()) as asking:
            before = _scripts_run(asking)
            ends = await asyncio.gather(*map(_tailed, jobs))
            calls = _scripts_run(asking) - before
    assert ends == [["queued", "expired"]] * many
    assert many <= calls <= 1.05 * many


def _scripts_run(asking):
    return asking.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]


def test_a_server_in_memory_expires_jobs_too():
    """On a held queue by the clock alone, with both clients."""
    with MemoryClient() as client:
        client.hold()
        job, other = (client.submit(text, model=MODEL, deadline=0.2) for text in ("What?", "Why?"))
        types = []
        reading = threading.Thread(target=lambda: types.extend(event.type for event in job.tail()), daemon=True)
        reading.start()
        with pytest.raises(JobExpired):
            other.result()
        reading.join(10)
        assert types == ["queued", "expired"]

    async def looped():
        async with AsyncMemoryClient() as client:
            client.hold()
            return await _tailed(await client.submit("What?", model=MODEL, deadline=0.2))

    assert asyncio.run(looped()) == ["queued", "expired"]
