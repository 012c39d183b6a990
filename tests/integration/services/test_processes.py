"""One client in whatever way its process is divided: forks, threads, loops, greenlets, and another Celery app."""

import json

import pytest
import redis

from genqueue import Client
from genqueue_lab.servers import RedisServer

MODEL = "gemini-2.5-flash"


@pytest.fixture
def client(settings):
    """A client of the same deployment."""
    with Client(**settings) as made:
        yield made


def printed(host):
    """Return the documents a process has printed."""
    return [json.loads(line) for line in host.log().splitlines() if line.startswith("{")]


def entries(client, job):
    """Return the ids of a job's events."""
    return [event.id for event in job.tail(timeout=0)]


def test_a_fork_in_the_middle_of_a_tail(start_host, client, worker):
    """Parent and child read on, both all of it; so do processes that multiprocessing starts."""
    job = client.submit("Who am I?", model=MODEL)
    shift = worker.take(job)
    shift.say("one ")
    host = start_host("forks.py", job.id, ready="forked")
    shift.say("two ")
    shift.succeed("one two ")
    host.wait_for("done")
    whole = entries(client, job)
    seen = {document["who"]: document["ids"] for document in printed(host)}
    assert seen == {
        **dict.fromkeys(("parent", "child", "parent anew", "child anew"), whole),
        **dict.fromkeys(("fork", "spawn"), ["one two "] * 4),
    }
    assert host.process.wait(10) == 0


@pytest.mark.parametrize("script", ["threads_and_loops.py", "greenlets.py"])
def test_many_readers_of_one_process(start_host, client, worker, script):
    """Each sees every event once, whatever it runs on."""
    job = client.submit("How many are we?", model=MODEL)
    shift = worker.take(job)
    host = start_host(script, job.id, ready="following")
    for number in range(20):
        shift.say(f"{number} ")
    shift.succeed()
    host.wait_for("done")
    whole = entries(client, job)
    (seen,) = printed(host)
    assert len(seen) >= 20
    assert all(ids == whole for ids in seen.values()), seen
    assert host.process.wait(10) == 0
    assert "Warning" not in host.log()


def test_the_hosts_celery_app_stays_the_hosts(start_host, server):
    """Its shared tasks go to its own broker, and none of them becomes ours."""
    with RedisServer(server.binary) as broker, redis.Redis.from_url(broker.url()) as raw:
        host = start_host("celery_host.py", broker.url(), ready="done")
        sent = [json.loads(message)["headers"]["task"] for message in raw.lrange("celery", 0, -1)]
        assert sorted(sent) == ["host.after", "host.before"]
        assert host.process.wait(10) == 0
