"""The ledger's scripts write the golden streams: whoever changes what they write sees here whose reader it breaks."""

import pytest

from .golden_streams import load

GOLDEN = load()


class Worker:
    """Says in each attempt what the golden stream has it say, and ends the last one the same way."""

    def __init__(self, desk, golden):
        self.desk, self._golden = desk, golden
        self._attempt = self._written = self._stamp = 0

    def submit(self, **fields):
        """Submit a job and return it with its flight and stamp."""
        job = self.desk.submission(**fields)
        reply = self.desk.submit(job)
        self.flight, self._stamp = reply.flight, reply.stamp or self._stamp
        return job

    def work(self, until=None, *, alone=False):
        """Claim the flight and write the attempt's entries, the first `until` of them."""
        self._attempt += 1
        self._token = f"token-{self._attempt}"
        self._written = 0
        self.desk.claim(self.flight, self._stamp, self._token, alone=alone)
        self.go_on(until)

    def go_on(self, until=None):
        """Write the attempt's entries up to number `until`."""
        entries = [
            {name: value for name, value in fields.items() if name not in {"v", "attempt", "n"}}
            for fields in self._golden.entries.values()
            if fields["attempt"] == str(self._attempt) and fields["n"] != "0"
        ][self._written : until]
        reply = self.desk.append(self.flight, self._written + 1, *entries, token=self._token)
        assert reply.status == "ok"
        self._written = reply.written

    def settle(self, outcome, **fields):
        """End the attempt, with the fields of the terminal event in the golden stream."""
        last = list(self._golden.entries.values())[-1]
        detail = {name: value for name, value in last.items() if name not in {"type", "v", "attempt", "n"}}
        fields = {"detail": detail, **fields}
        reply = self.desk.settle(self.flight, outcome, token=self._token, first=self._written + 1, **fields)
        self._stamp = reply.stamp

    def sweep_at(self, moment):
        """Look after the partition, and take what is to be published."""
        for publication in self.desk.sweep_at(moment):
            self._stamp = publication.stamp


def ended(outcome):
    """One attempt, and how it ends."""

    def story(worker):
        worker.submit()
        worker.work()
        worker.settle(outcome)

    return story


def lost(worker):
    """A worker that is heard of no more."""
    worker.submit()
    worker.work()
    worker.sweep_at(worker.desk.now + 15_001)
    worker.work()
    worker.settle("succeeded")


def lost_again(worker):
    """One more than the flight may lose of those that run it alone."""
    worker.submit()
    worker.work(alone=True)
    worker.sweep_at(worker.desk.now + 15_001)
    worker.work(alone=True)
    worker.sweep_at(worker.desk.now + 15_001)


def retried(worker):
    """Two tries that fail."""
    worker.submit()
    worker.work()
    worker.settle("retry", delay_ms=2000, detail={"code": "UNAVAILABLE", "message": "", "retryable": "1"})
    worker.sweep_at(worker.desk.now + 2000)
    worker.work()
    worker.settle("retry", delay_ms=3000, detail={"code": "RESOURCE_EXHAUSTED", "message": "", "retryable": "1"})
    worker.sweep_at(worker.desk.now + 3000)
    worker.work()
    worker.settle("succeeded")


def continued(worker):
    """A try that fails, and a worker that is lost; each time the next goes on from there."""
    worker.submit(on_interrupt="continue")
    worker.work()
    worker.settle("retry", delay_ms=2000, detail={"code": "UNAVAILABLE", "message": "", "retryable": "1"})
    worker.sweep_at(worker.desk.now + 2000)
    worker.work()
    worker.sweep_at(worker.desk.now + 15_001)
    worker.work()
    worker.settle("succeeded")


def handed_back(worker):
    """A worker that is stopped."""
    worker.submit()
    worker.work()
    worker.settle("interrupted")
    worker.work()
    worker.settle("succeeded")


def left(worker):
    """Two of three jobs leave: one is cancelled, the deadline of the other passes."""
    worker.submit(mark="mark-1")
    second = worker.submit(mark="mark-2")
    worker.submit(mark="mark-3", deadline_ms=worker.desk.now + 5000)
    worker.work(until=2)
    worker.desk.leave(second.job)
    worker.go_on()
    worker.sweep_at(worker.desk.now + 5000)
    worker.settle("succeeded")


def cancelled(worker):
    """The only job leaves."""
    job = worker.submit()
    worker.work()
    worker.desk.leave(job.job)


def expired(worker):
    """Nobody begins in time."""
    worker.submit()
    worker.sweep_at(worker.desk.now + 60_000)


def cached(worker):
    """The same question after its answer."""
    worker.submit()
    worker.work(until=0)
    answer = [{"type": "delta", "text": "Rhine."}]
    detail = next(fields for fields in GOLDEN["plain"].entries.values() if fields["type"] == "completed")
    detail = {name: value for name, value in detail.items() if name not in {"type", "v", "attempt", "n"}}
    worker.settle("succeeded", replay=answer, detail=detail)
    worker.submit()


STORIES = {
    "plain": ended("succeeded"),
    "thoughts_and_parts": ended("succeeded"),
    "empty_pieces": ended("succeeded"),
    "unicode": ended("succeeded"),
    "large_piece": ended("succeeded"),
    "long_stream": ended("succeeded"),
    "failed": ended("failed"),
    "prompt_blocked": ended("failed"),
    "sealed": ended("failed"),
    "restarted": lost,
    "workers_lost": lost_again,
    "retried": retried,
    "continued": continued,
    "handed_back": handed_back,
    "others_left": left,
    "left": left,
    "cancelled": cancelled,
    "expired": expired,
    "cached": cached,
}


@pytest.mark.parametrize("name", STORIES)
def test_ledger_writes_the_golden_stream(name, desk):
    """Entry by entry, field by field; only the ids are other ones."""
    worker = Worker(desk, GOLDEN[name])
    STORIES[name](worker)
    assert desk.entries(worker.flight) == list(GOLDEN[name].entries.values())
