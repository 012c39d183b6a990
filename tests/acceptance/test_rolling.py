"""Workers are replaced one after the other under load, and nobody notices."""

import itertools
import signal
import threading
import time

import pytest
from acceptance_workers import wait_until

from genqueue import Client
from genqueue.lanes import LANES

MODEL = "gemini-3-pro-preview"
#: Every lease, in seconds: who waited as long has waited for one.
LEASE = 15
QUIET = ("--without-mingle", "--without-gossip")


class Caller(threading.Thread):
    """Submits and reads, one job after the other, until it is told to stop; keeps what it saw.

    Each asks again as soon as it has been answered.
    """

    def __init__(self, url, lane, stop):
        super().__init__()
        self.url, self.lane, self.stop = url, lane, stop
        self.seen = []
        self.error = None

    def run(self):
        """Ask and be answered."""
        try:
            with Client(data_url=self.url) as client:
                for number in itertools.count():
                    if self.stop.is_set():
                        return
                    begun = time.monotonic()
                    job = client.submit(f"{self.name} asks {number}", model=MODEL, lane=self.lane)
                    events = [event.type for event in job.tail(timeout=30)]
                    self.seen.append((time.monotonic() - begun, events))
        except Exception as error:  # noqa: BLE001 - told by the test
            self.error = error


@pytest.fixture
def callers(own_server):
    """Ask on every lane from now on."""
    stop = threading.Event()
    running = [Caller(own_server.url(), lane, stop) for lane in LANES]

    def start():
        for caller in running:
            caller.start()
        return running

    yield start
    stop.set()
    for caller in running:
        caller.join()


def answered(callers):
    """Return how many answers there have been."""
    return sum(len(caller.seen) for caller in callers)


def test_a_fleet_is_replaced_under_load(start_worker, own_emulator, client, callers):
    """One worker may drain, the other must hand back: no job fails, no caller sees an error, none waits for a lease."""
    options = {"ready": False, "arguments": QUIET, "slots": 20, "GENQUEUE_LEASE_HIGH": LEASE}
    first = start_worker(**{**options, "arguments": (*QUIET, "-Q", "generate.high,generate.normal")})
    second = start_worker(**options, GENQUEUE_DRAIN_TIMEOUT=0)
    for worker in (first, second):
        worker.wait_ready()
    own_emulator.fault("stall", match="Take your time", after=1, times=1)
    slow = client.submit("Take your time", model=MODEL, lane="low")  # the second worker's, beyond its end
    tail = slow.tail(timeout=60)
    assert next(event for event in tail if event.type == "delta")
    with own_emulator.paced(ttft=0.2, tpot=0.02):
        asking = callers()
        wait_until(lambda: answered(asking) > 3, what="answers")
        fresh = start_worker(**options)
        fresh.wait_ready()
        for old in (first, second):
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(20) == 0, old.log()
            before = answered(asking)
            wait_until(lambda before=before: answered(asking) > before + 3, what="answers of those that are left")
        asking[0].stop.set()
        for caller in asking:
            caller.join(30)
    assert [caller.error for caller in asking] == [None] * len(LANES)
    seen = [one for caller in asking for one in caller.seen]
    assert {events[-1] for _, events in seen} == {"completed"}
    assert max(seconds for seconds, _ in seen) < LEASE
    assert "outcome=interrupted" in second.log()
    assert "outcome=interrupted" not in first.log()
    assert [event.type for event in tail if event.type != "delta"][-2:] == ["started", "completed"]
    assert slow.result(timeout=5).attempts == 2
    for worker in (first, second, fresh):
        assert "Traceback" not in worker.log()
