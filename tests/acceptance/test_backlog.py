"""A long backlog is not a loss: it is published once, and stays in order."""

import itertools
import os
import signal

import redis
from acceptance_workers import wait_until

from genqueue.keys import Keys

MODEL = "gemini-2.5-flash"
KEYS = Keys()

#: 10,000 jobs over ten minutes is the full form; the suite runs a short one with the sweep's patience scaled alike.
JOBS = int(os.environ.get("GENQUEUE_TEST_BACKLOG", "600"))
FULL = JOBS >= 10_000
SLACK = 5.0 if FULL else 0.5
SLOTS = 1 if FULL else 4


def test_backlog_is_published_once_and_kept_in_order(own_server, own_emulator, client, start_worker):
    """Many jobs wait long for one slow worker that is killed in between: messages at most jobs + 1 %, in order."""
    own_emulator.set(ttft=0.05, tpot=0.0, tokens=1)
    with redis.Redis.from_url(own_server.url()) as raw:
        jobs = [client.submit(f"question {n}", model=MODEL, cache="off", share="none") for n in range(JOBS)]
        before = raw.info("commandstats")["cmdstat_lpush"]["calls"]
        assert before == JOBS
        options = {"slots": SLOTS, "GENQUEUE_SWEEP_SLACK": SLACK, "GENQUEUE_LEASE_OTHER": 3}
        first = start_worker(**options)
        wait_until(lambda: jobs[JOBS // 4].status().ended, timeout=900)
        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        start_worker(**options)
        for job in jobs:
            job.result(timeout=900)

        lost = JOBS * 0.01 + SLOTS  # what the dead worker held comes again
        queued = raw.info("commandstats")["cmdstat_lpush"]["calls"]
        assert queued - before <= lost
        flights = [job.stream_key.rpartition(":")[2] for job in jobs]
        claimed = [[int(part) for part in raw.hmget(KEYS.flight(flight), "claimed", "attempt")] for flight in flights]
    once = [moment for moment, attempt in claimed if attempt == 1]
    assert len(once) >= JOBS - lost
    # Claimed in the order they were submitted, but for those in flight together, and those the dead worker had popped.
    overtaken = [earlier for earlier, later in itertools.pairwise(once) if earlier > later + 100]
    assert len(overtaken) <= SLOTS
