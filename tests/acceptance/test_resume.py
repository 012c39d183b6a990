"""A consumer may come late, drop and resume as often as it likes: it sees what one sees that never dropped."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from genqueue import AsyncClient, Client
from genqueue.events import decode, text_of
from genqueue.keys import Keys

MODEL = "gemini-2.5-flash"
TOKENS = 60
DROPS = 20


class Blocking:
    """A consumer with the blocking client."""

    def __init__(self, url, job_id):
        self.url = url
        self.job_id = job_id

    def read(self, after, limit):
        """Return at most `limit` events behind one, read with a client of its own that is gone afterwards."""
        read = []
        with Client(data_url=self.url) as client:
            for event in client.job(self.job_id).tail(after, timeout=60):
                read.append(event)
                if len(read) == limit:
                    break
        return read


class Asyncio(Blocking):
    """A consumer with the asyncio client."""

    def read(self, after, limit):
        """Do the same on an event loop of its own."""
        return asyncio.run(self._read(after, limit))

    async def _read(self, after, limit):
        read = []
        async with AsyncClient(data_url=self.url) as client:
            events = client.job(self.job_id).tail(after, timeout=60)
            async for event in events:
                read.append(event)
                if len(read) == limit:
                    break
            await events.aclose()
        return read


def steady(consumer):
    """Return every event, read in one go."""
    return consumer.read(None, None)


def dropping(consumer, seed):
    """Return every event, read in pieces of random length that a new client resumes each time."""
    places = sorted(random.Random(seed).sample(range(1, TOKENS), DROPS))
    events = []
    for start, end in zip([0, *places], places, strict=False):
        events += consumer.read(events[-1] if events else None, end - start)
    assert len(events) == places[-1]
    return events + consumer.read(events[-1].id, None)


def follow_all(threads, url, job):
    """Start four consumers that drop, and two that do not."""
    consumers = [Blocking(url, job.id), Asyncio(url, job.id)]
    whole = [threads.submit(steady, consumer) for consumer in consumers]
    pieces = [threads.submit(dropping, consumer, seed) for seed, consumer in enumerate(consumers * 2)]
    return whole + pieces


def assert_same(url, job, readers):
    """Assert that all, also those who come now, saw the stream as it stands, and the text of the result."""
    seen = [reader.result(60) for reader in readers]
    with redis.Redis.from_url(url) as raw:
        truth = [decode(*entry) for entry in raw.xrange(job.stream_key)]
    seen += [steady(Blocking(url, job.id)), steady(Asyncio(url, job.id)), dropping(Blocking(url, job.id), "late")]
    for events in seen:
        assert events == truth
    assert truth[-1].type == "completed"
    assert text_of(truth) == job.text()
    return truth


def holder_of(url, job):
    """Return the process id of the worker that runs a job."""
    with redis.Redis.from_url(url) as raw:
        return int(raw.hget(Keys().flight(job.stream_key.rpartition(":")[2]), "inbox").rpartition(b":")[2])


@pytest.fixture
def threads():
    """Enough for all consumers."""
    with ThreadPoolExecutor(12) as pool:
        yield pool


def test_consumers_that_drop_miss_and_repeat_nothing(own_server, own_emulator, client, start_worker, threads):
    """Six consumers of one live stream, some late, some dropping twenty times, with both clients."""
    start_worker()
    own_emulator.set(ttft=0.1, tpot=0.02, tokens=TOKENS)
    job = client.submit("a long answer", model=MODEL, lane="high")
    readers = follow_all(threads, own_server.url(), job)
    next(event for event in job.tail(timeout=30) if event.n > TOKENS // 3)
    readers += follow_all(threads, own_server.url(), job)

    truth = assert_same(own_server.url(), job, readers)

    assert [event.type for event in truth] == ["queued", "started", *["delta"] * TOKENS, "completed"]


def test_consumers_resume_across_the_loss_of_a_worker(own_server, own_emulator, client, start_worker, threads):
    """The worker is killed in mid-answer and another begins anew: all are told at the same place what to discard."""
    workers = [start_worker(ready=False, GENQUEUE_LEASE_HIGH=2) for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    own_emulator.set(ttft=0.05, tpot=0.1, tokens=TOKENS)
    job = client.submit("a long answer", model=MODEL, lane="high")
    readers = follow_all(threads, own_server.url(), job)
    next(event for event in job.tail(timeout=30) if event.type == "delta")
    own_emulator.set(ttft=0.05, tpot=0.01, tokens=TOKENS)
    (holder,) = [worker for worker in workers if worker.pid == holder_of(own_server.url(), job)]
    holder.kill()

    truth = assert_same(own_server.url(), job, readers)

    assert {event.fields["reason"] for event in truth if event.type == "restarted"} == {"lost"}
    assert job.result().attempts > 1
    assert len([event for event in truth if event.type == "delta"]) > TOKENS
