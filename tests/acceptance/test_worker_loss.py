"""A worker that dies takes nothing with it."""

import redis
from acceptance_workers import wait_until

from genqueue.events import TERMINAL, decode
from genqueue.keys import Keys

KEYS = Keys()
JOBS = 51
MODEL = "gemini-2.5-flash"


def events_of(server, job):
    """Return every event of a job's stream as it stands."""
    with redis.Redis.from_url(server.url()) as raw:
        return [decode(*entry) for entry in raw.xrange(job.stream_key)]


def flight_field(server, job, field):
    """Return a number from the hash of a job's flight."""
    flight = job.stream_key.rpartition(":")[2]
    with redis.Redis.from_url(server.url()) as raw:
        return int(raw.hget(KEYS.flight(flight), field))


def test_killed_worker_loses_and_doubles_nothing(own_server, own_emulator, client, start_worker):
    """After kill -9 with live jobs on every lane, each ends once, soon after its lease, with its whole text."""
    first = start_worker(GENQUEUE_LEASE_OTHER=6)
    own_emulator.set(ttft=0.2, tpot=0.2, tokens=40)
    lanes = ("high", "normal", "low")
    jobs = [client.submit(f"question {n}", model=MODEL, lane=lanes[n % 3]) for n in range(JOBS)]
    wait_until(lambda: all(any(e.type == "delta" for e in events_of(own_server, job)) for job in jobs))
    start_worker(GENQUEUE_LEASE_OTHER=6)
    first.kill()
    expiry = {job.id: flight_field(own_server, job, "lease") for job in jobs}
    own_emulator.set(ttft=0.05, tpot=0.005, tokens=40)

    results = {job.id: job.result(timeout=60) for job in jobs}

    for job in jobs:
        events = events_of(own_server, job)
        assert [event.type for event in events if event.type in TERMINAL] == ["completed"]
        assert events[-1].type == "completed"
        assert "restarted" in [event.type for event in events]
        assert results[job.id].attempts == 2
        shown = ""
        for event in events:
            shown = "" if event.type == "restarted" else shown + (event.text or "")
        assert shown == results[job.id].text
    waits = [flight_field(own_server, job, "claimed") - expiry[job.id] for job in jobs]
    assert max(waits) < 2000, sorted(waits)


def test_interrupted_worker_hands_its_jobs_back(own_server, own_emulator, client, start_worker):
    """A worker that is told to stop and runs out of grace hands its job on at once, without a lost lease."""
    first = start_worker(GENQUEUE_DRAIN_TIMEOUT=0.2)
    own_emulator.set(ttft=0.05, tpot=0.2, tokens=40)
    job = client.submit("a long answer", model=MODEL, lane="low")
    next(event for event in job.tail(timeout=30) if event.type == "delta")
    start_worker()
    own_emulator.set(ttft=0.05, tpot=0.005, tokens=40)
    assert first.stop() == 0

    assert job.result(timeout=30).attempts == 2
    status = job.status()
    assert (status.losses, status.tries) == (0, 0)
    assert {"reason": "interrupted"}.items() <= {
        k: v for e in events_of(own_server, job) if e.type == "restarted" for k, v in e.fields.items()
    }.items()
