"""Flights that were aboard when workers were lost run alone, and only what ends its own process is given up."""

import os
import signal
import subprocess
import urllib.request

import pytest
import redis
from acceptance_workers import wait_until

from genqueue import JobFailed
from genqueue.keys import Keys
from genqueue_lab.servers import free_port

KEYS = Keys()
MODEL = "gemini-2.5-flash"
QUICK = {"arguments": ("--without-mingle", "--without-gossip"), "GENQUEUE_LEASE_HIGH": 2}


@pytest.fixture
def data(own_server):
    """Give the raw server."""
    with redis.Redis.from_url(own_server.url(), decode_responses=True) as raw:
        yield raw


def field(data, job, name):
    """Return a field of the hash of a job's flight."""
    return data.hget(KEYS.flight(job.stream_key.rpartition(":")[2]), name)


def holder(data, job, besides=()):
    """Return the pid of the process that runs a job, once one that is not among others does."""
    return wait_until(
        lambda: (
            field(data, job, "state") == "running"
            and (found := int(field(data, job, "inbox").rpartition(":")[2])) not in besides
            and found
        ),
        what="a holder",
    )


@pytest.fixture
def suspects(client, data):
    """Submit jobs whose flights were lost twice with others aboard, as the sweep leaves them."""

    def submit(*prompts):
        jobs = [client.submit(prompt, model=MODEL, lane="high") for prompt in prompts]
        for job in jobs:
            data.hset(KEYS.flight(job.stream_key.rpartition(":")[2]), "losses", 2)
        return jobs

    return submit


def is_alive(pid):
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_suspect_that_ends_its_process_twice_is_a_dead_letter(own_emulator, suspects, start_worker, data):
    """What kills the process it runs alone in, twice, fails; others complete, or are cancelled; the worker counts it.

    It hands back what still runs alone when it is stopped.
    """
    own_emulator.fault("stall", match="long")
    poison, cancelled, handed_back, innocent = suspects("long poison", "long, cancelled", "long", "question")
    port = free_port()
    worker = start_worker(GENQUEUE_HEALTH_PORT=port, GENQUEUE_DRAIN_TIMEOUT=0, **QUICK)
    child = holder(data, cancelled)
    assert cancelled.cancel()
    wait_until(lambda: not is_alive(child), what="the end of what was cancelled")

    first = holder(data, poison)
    os.kill(first, signal.SIGKILL)
    os.kill(holder(data, poison, besides={first, worker.pid}), signal.SIGKILL)
    with pytest.raises(JobFailed) as caught:
        poison.result(timeout=30)
    assert (caught.value.code, caught.value.retryable) == ("worker_lost", True)
    assert innocent.result(timeout=30).source == "live"

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        counted = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if "suspects_total{" in line)
    found = {name.split('"')[1]: float(count) for name, count in counted.items() if float(count)}
    assert found == {"lost": 2, "refused": 1, "succeeded": 1}
    child = holder(data, handed_back)
    assert worker.stop() == 0
    assert field(data, handed_back, "state") == "queued"
    assert not is_alive(child)


def test_suspects_outlive_neither_nursery_nor_worker(own_emulator, suspects, start_worker, data):
    """Whoever of them is killed, what runs alone is handed back at once: it is neither lost nor left behind."""
    own_emulator.fault("stall", match="long")
    (job,) = suspects("long")
    worker = start_worker(GENQUEUE_SWEEP_SLACK=60, **QUICK)
    children = [holder(data, job)]
    nursery = int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(children[0])]))
    assert nursery != worker.pid
    for victim in (nursery, worker.pid):
        os.kill(victim, signal.SIGKILL)
        if victim == nursery:
            children.append(holder(data, job, besides=children))
    wait_until(lambda: field(data, job, "state") == "queued", timeout=5, what="the hand-back")
    assert field(data, job, "losses") == "2"
    wait_until(lambda: not any(is_alive(child) for child in children), what="the end of the children")
