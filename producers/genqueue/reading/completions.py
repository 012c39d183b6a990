"""Waiting for the ends of jobs, one or thousands, with one inbox and without reading their streams."""

from __future__ import annotations

import math
import time
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from genqueue import events, ledger
from genqueue.errors import ServerUnavailable, WaitTimeout
from genqueue.patience import Limit, Outage
from genqueue.reading import expiry
from genqueue.reading.bells import parse_ring
from genqueue.reading.ear import Ear
from genqueue.reading.tail import POLL
from genqueue.result import ENDED
from genqueue.steps import Pause, Read, Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genqueue.patience import Patience
    from genqueue.reading.tail import Reference
    from genqueue.steps import Following, Operation

#: Jobs that one round trip asks about.
BATCH: Final = 250


def completions(references: Iterable[Reference], patience: Patience) -> Following[str, None]:
    """Yield the id of each job as it ends, however it ends; those whose retention is over have ended too.

    Soon after its deadline a job that nobody has ended is ended here: there may be no worker.

    Raises:
        WaitTimeout: the caller's timeout passed; never in front of ends that have come.
        ServerUnavailable: the server was away for longer than the patience allows.
    """
    waiting = _Waiting(references, Limit(patience))
    try:
        while waiting.jobs:
            yield from waiting.wait()
    finally:
        waiting.close()


class _Waiting:
    """The jobs whose ends are still to come.

    Attributes:
        jobs: where they are, by id.
    """

    def __init__(self, references: Iterable[Reference], limit: Limit) -> None:
        self.jobs = {reference.job_id: reference for reference in references}
        self._aboard: dict[str, list[Reference]] = {}
        for reference in self.jobs.values():
            self._aboard.setdefault(reference.bell, []).append(reference)
        self._limit = limit
        self._outage, self._refused = Outage(limit.reconnect), Outage(limit.reconnect)
        # When to end which job, the earliest first; some may have ended.
        self._expiries: list[tuple[float, str]] = []
        self._not_before = 0.0
        self._ear: Ear | None = None
        self._behind = True
        self._poll_at = 0.0

    def close(self) -> None:
        """Listen no more."""
        if self._ear is not None:
            self._ear.close()

    def wait(self) -> Following[str, None]:
        """Yield what ends next; raises as `completions`."""
        overdue = self._limit.passed
        if self._behind or overdue:
            yield from self._look()
        if not self._behind:
            yield from self._expire()
        if not self.jobs:
            return
        if overdue:
            raise self._timeout()
        if not self._behind:
            yield from self._listen()

    def _look(self) -> Following[str, None]:
        """Yield those that have ended; while the server is away, wait a little instead."""
        self._behind = True
        try:
            remaining, expiries = list(self.jobs.values()), []
            for start in range(0, len(remaining), BATCH):
                ended, moments = yield from _ask(remaining[start : start + BATCH])
                expiries += moments
                for job_id in ended:
                    yield from self._tell(job_id)
        except ServerUnavailable as away:
            if self._limit.passed:
                raise self._timeout() from away
            yield Pause(self._limit.left(self._outage.note(away)))
        else:
            self._outage.end()
            self._behind = False
            self._poll_at = time.monotonic() + POLL
            heapify(expiries)
            self._expiries = expiries

    @property
    def _next_expiry(self) -> float:
        return max(self._expiries[0][0], self._not_before) if self._expiries else math.inf

    def _expire(self) -> Following[str, None]:
        """End the jobs whose deadlines have passed, one by one: others want the server too."""
        while self._next_expiry <= time.monotonic():
            moment, job_id = heappop(self._expiries)
            reference = self.jobs.get(job_id)
            if reference is None:
                continue
            try:
                departed = ledger.parse_leave((yield Run(ledger.leave(reference.keys, job_id, "expired"))))
            except ServerUnavailable as away:
                # Whoever may read may not be allowed to write: that has a patience of its own.
                self._not_before = time.monotonic() + self._refused.note(away)
                heappush(self._expiries, (moment, job_id))
                return
            self._refused.end()
            if departed.status == "early":
                heappush(self._expiries, (expiry.next_moment(departed), job_id))
            else:
                yield from self._tell(job_id)

    def _listen(self) -> Following[str, None]:
        if self._ear is None:
            bells = {reference.bell for reference in self.jobs.values()}
            self._ear = Ear(tuple(bells), self._limit, ends_only=True)
        until = min(self._poll_at, self._next_expiry) - time.monotonic()
        until = math.inf if self._ear.deaf else max(0.0, until)
        try:
            heard = yield from self._ear.hear(self._limit.left(until))
        except ServerUnavailable:
            if not self._limit.passed:
                raise
            return
        self._behind = heard.out_of_step or (heard.away is None and time.monotonic() >= self._poll_at)
        for bell, payload in heard.rings:
            yield from self._take(bell, payload)

    def _take(self, bell: str, payload: bytes) -> Following[str, None]:
        ring = parse_ring(payload)
        if ring is None or ring.fields is None:
            self._behind = True
            return
        event = events.of_fields(ring.id, ring.fields)
        for reference in self._aboard[bell]:
            if event.ends(reference.mark):
                yield from self._tell(reference.job_id)

    def _tell(self, job_id: str) -> Following[str, None]:
        if self.jobs.pop(job_id, None) is not None:
            yield job_id

    def _timeout(self) -> WaitTimeout:
        return WaitTimeout(next(iter(self.jobs)), self._limit.timeout)


def _ask(references: list[Reference]) -> Operation[tuple[list[str], list[tuple[float, str]]]]:
    """Return those that have ended, and of the others when to end which."""
    commands = [
        command
        for reference in references
        for command in (("HMGET", reference.job_key, "left", "deadline"), ("HGET", reference.flight_key, "state"))
    ]
    clock, *replies = yield Read((expiry.CLOCK, *commands))
    ended, expiries = [], []
    for reference, (left, deadline), state in zip(references, replies[::2], replies[1::2], strict=True):
        if left is not None or state is None or state.decode() in ENDED:
            ended.append(reference.job_id)
        else:
            expiries.append((expiry.moment(deadline, clock), reference.job_id))
    return ended, expiries
