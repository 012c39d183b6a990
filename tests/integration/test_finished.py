"""Following the jobs that end as a consumer group, and erasing jobs, with both clients on a real server."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from genqueue import finished, ledger
from genqueue.errors import InvalidRequest, JobNotFound, StreamGone
from genqueue.keys import Keys
from genqueue.purge import Purged

from .client_sides import CLIENTS, HandWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "gemini-2.5-flash"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look as often as an impatient test."""
    monkeypatch.setattr(finished, "POLL", 0.01)


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


def end(client, count: int) -> list[str]:
    """End so many jobs and return their ids."""
    jobs = [client.submit(f"question {number}", model=MODEL) for number in range(count)]
    for job in jobs:
        job.cancel()
    return [job.id for job in jobs]


def read(jobs: Iterator[Any], count: int) -> list[str]:
    """Return the ids of the next jobs, all but the last of them acknowledged."""
    return [found.job_id for found in itertools.islice(jobs, count)]


def test_a_group_gets_every_job_once(client) -> None:
    """From every partition, those that ended before it began to read too; another group gets all of them again."""
    jobs = end(client, 20)
    assert sorted(read(client.finished("billing", "a"), 20)) == sorted(jobs)
    assert sorted(read(client.finished("audit", "a"), 20)) == sorted(jobs)


def test_a_job_says_how_it_ended(client) -> None:
    """State, tenant, lane and moment."""
    job = client.submit("x", model=MODEL, tenant="acme", lane="high")
    job.cancel()
    found = next(iter(client.finished("g", "c")))
    assert (found.job_id, found.state, found.tenant, found.lane) == (job.id, "cancelled", "acme", "high")
    assert found.ended_at > 1.7e9


def test_what_was_not_acknowledged_comes_again(client) -> None:
    """To the same consumer at once: the job it was at when it died, and what it had fetched and not begun."""
    jobs = end(client, 10)
    first = read(client.finished("g", "c"), 4)
    second = read(client.finished("g", "c"), 7)
    assert set(first) & set(second) == {first[-1]}
    assert set(first) | set(second) == set(jobs)


def silence(worker: HandWorker, consumer: str) -> None:
    """Make a consumer look as if it had said nothing about its jobs for a while."""
    for partition in range(worker.keys.partitions):
        stream = f"{worker.keys.slot(partition)}finished"
        pending = worker.redis.xpending_range(stream, "g", "-", "+", 100) if worker.redis.exists(stream) else []
        if pending:
            worker.redis.xclaim(stream, "g", consumer, 0, [one["message_id"] for one in pending], idle=5000)


def test_what_a_dead_consumer_left_is_taken_over(client, worker) -> None:
    """By another consumer of the group, once it has been silent for the idle time."""
    jobs = end(client, 10)
    done = read(client.finished("g", "dead"), 3)[:-1]
    silence(worker, "dead")
    assert sorted([*done, *read(client.finished("g", "alive", idle=1), 8)]) == sorted(jobs)


def test_a_slow_consumer_leaves_what_was_taken_over(client, worker) -> None:
    """What it had fetched and another has begun since, it does not begin too."""
    jobs = end(client, 10)
    slow = iter(client.finished("g", "slow"))
    first = next(slow).job_id
    silence(worker, "slow")
    others = read(client.finished("g", "quick", idle=1), 10)
    assert sorted(others) == sorted(jobs)
    (late,) = end(client, 1)
    assert next(slow).job_id == late != first


def test_a_group_may_begin_with_what_is_to_come(client, monkeypatch) -> None:
    """Where nobody wants the past."""
    looked, original = threading.Event(), ledger.parse_take

    def parse(*arguments):
        looked.set()
        return original(*arguments)

    monkeypatch.setattr(ledger, "parse_take", parse)
    end(client, 5)
    jobs = iter(client.finished("g", "c", start="newest"))
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(next, jobs)
        assert looked.wait(10)
        (later,) = end(client, 1)
        assert found.result(10).job_id == later


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"group": ""}, "group"),
        ({"group": "\ud800"}, "group"),
        ({"consumer": "x" * 129}, "consumer"),
        ({"start": "middle"}, "start"),
        ({"idle": 0}, "idle"),
        ({"idle": True}, "idle"),
    ],
)
def test_a_wrong_consumer_is_refused_at_once(settings, arguments, field) -> None:
    """Before anything is read, with the argument's name."""
    given = {"group": "g", "consumer": "c", **arguments}
    with CLIENTS["blocking"](**settings) as client, pytest.raises(InvalidRequest) as raised:
        client.finished(given.pop("group"), given.pop("consumer"), **given)
    assert raised.value.field == field


def traces(worker: HandWorker, *names: str) -> list[str]:
    """Return every key that is named after one of the names, or a hash that holds one."""
    found = []
    for key in worker.redis.keys("*"):
        held = key + (
            json.dumps([*map(repr, worker.redis.hgetall(key).items())]).encode() if is_hash(worker, key) else b""
        )
        found += [key.decode() for name in names if name.encode() in held]
    return found


def is_hash(worker: HandWorker, key: bytes) -> bool:
    """Return whether a key holds a hash."""
    return worker.redis.type(key) == b"hash"


def test_a_purged_job_is_unknown(client, worker) -> None:
    """To its reader too; its idempotency key is free again."""
    job = client.submit("the prompt", model=MODEL, idempotency_key="once", cache="refresh")
    flight = worker.flight(job)
    worker.take(job).succeed("the answer")
    assert job.text() == "the answer"
    assert client.purge(job.id)
    assert traces(worker, job.id, flight, "the prompt", "the answer") == []
    with pytest.raises(StreamGone):
        list(job.tail(timeout=5))
    with pytest.raises(JobNotFound):
        client.job(job.id).status()
    assert not client.purge(job.id)
    assert client.submit("the prompt", model=MODEL, idempotency_key="once").id != job.id


def test_a_tenant_is_purged_as_a_whole(client, worker) -> None:
    """Jobs in every state and answers of jobs long gone; others' are left alone."""
    jobs = [client.submit(f"q{number}", model=MODEL, tenant="acme") for number in range(12)]
    worker.take(jobs[0]).succeed()
    running = worker.take(jobs[1])
    running.say("Yes")
    jobs[2].cancel()
    worker.redis.delete(worker.keys.job(jobs[0].id), worker.keys.flight(worker.flight(jobs[0])))
    other = client.submit("q0", model=MODEL, tenant="other")
    assert client.purge_tenant("acme") == Purged(jobs=11, answers=1)
    assert traces(worker, "acme") == []
    assert client.purge_tenant("acme") == Purged()
    with pytest.raises(AssertionError):
        running.say("more")
    assert other.status().state == "queued"


def test_a_purged_job_takes_its_blobs_along(database_url, prefix, worker, tmp_path) -> None:
    """Large inline data goes with the flight it was for, and stays with one that others share."""
    image = {"inline_data": {"mime_type": "image/png", "data": bytes(300_000)}}
    given = {
        "data_url": database_url,
        "key_prefix": prefix,
        "blob_url": f"file://{tmp_path}/blobs",
        "blob_threshold": 1000,
    }
    with CLIENTS["blocking"](**given) as client:
        first = client.submit([image], model=MODEL, tenant="acme", share="global")
        second = client.submit([image], model=MODEL, tenant="other", share="global")
        assert worker.flight(first) == worker.flight(second)
        client.purge(first.id)
        assert [path for path in tmp_path.rglob("*") if path.is_file()]
        client.purge(second.id)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
