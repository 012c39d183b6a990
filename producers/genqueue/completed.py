"""Taking many jobs in the order in which they end."""

from __future__ import annotations

import math
from contextlib import aclosing
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from genqueue.aio import AsyncJob
from genqueue.client import Job
from genqueue.errors import InvalidRequest, ServerUnavailable
from genqueue.jobs import reference_of
from genqueue.patience import Patience, persist
from genqueue.reading.completions import BATCH, completions
from genqueue.steps import Hear, Read, Step

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Sequence

    from genqueue.keys import Keys
    from genqueue.reading.bells import Heard
    from genqueue.reading.tail import Reference
    from genqueue.steps import Following, Operation

J = TypeVar("J", Job, AsyncJob)

#: Seconds that one deployment's jobs are waited for, before those of another have their turn.
TURN: Final = 0.05

#: What stands in place of a job's id when nothing came in a turn.
NOTHING: Final = ""


@overload
def as_completed(jobs: Iterable[Job], timeout: float | None = None) -> Iterator[Job]: ...


@overload
def as_completed(jobs: Iterable[AsyncJob], timeout: float | None = None) -> AsyncIterator[AsyncJob]: ...


def as_completed(jobs: Iterable[Any], timeout: float | None = None) -> Any:
    """Return an iterator over jobs as they end, however they end; asynchronous for those of an AsyncClient.

    A job that failed, or that nobody knows any more, comes too: its `result()` raises. Any number waits on one
    connection for each deployment. A job given twice comes once; two handles of one job both come.

    Args:
        jobs: of one client or several.
        timeout: seconds until WaitTimeout; those that have ended by then come first. None waits for all.

    Raises:
        InvalidRequest: what is given is no jobs, or of both kinds; or the timeout is none.
        WaitTimeout, ServerUnavailable: raised by the iterator.
    """
    handles = list(jobs)
    kinds = {type(job) for job in handles}
    if not kinds <= {Job, AsyncJob} or len(kinds) > 1:
        raise InvalidRequest("jobs", handles, "jobs of Client, or jobs of AsyncClient")
    if timeout is not None and not (isinstance(timeout, Real) and math.isfinite(timeout) and timeout >= 0):
        raise InvalidRequest("timeout", timeout, "seconds, or None to wait for all")
    if not handles:
        return _Empty()
    return _each_async(_parties(handles), timeout) if kinds == {AsyncJob} else _each(_parties(handles), timeout)


class _Empty:
    """No jobs, of either kind."""

    def __iter__(self) -> _Empty:
        return self

    def __aiter__(self) -> _Empty:
        return self

    def __next__(self) -> Job:
        raise StopIteration

    async def __anext__(self) -> AsyncJob:
        raise StopAsyncIteration


@dataclass(slots=True)
class _Party(Generic[J]):
    """Jobs of one deployment, which one connection waits for.

    Attributes:
        handles: by the job's id.
        known: where those jobs are that are known already.
    """

    connection: Any
    handles: dict[str, list[J]] = field(default_factory=dict)
    known: dict[str, Reference] = field(default_factory=dict)

    def add(self, job: J) -> None:
        """Take another job."""
        same = self.handles.setdefault(job.id, [])
        if not any(job is other for other in same):
            same.append(job)
        if job._found is not None:  # noqa: SLF001 - handles are as much this module's
            self.known[job.id] = job._found  # noqa: SLF001 - as above

    def watch(self, timeout: float | None, turn: float | None) -> Following[str, None]:
        """Return what yields the ids of those that end, and NOTHING after each turn in which none did."""
        patience = Patience(timeout, self.connection.settings.reconnect_timeout)
        watching = _watch(self.connection.keys, list(self.handles), self.known, patience)
        return watching if turn is None else _by_turns(watching, turn)


def _parties(jobs: Sequence[J]) -> list[_Party[J]]:
    parties: dict[Any, _Party[J]] = {}
    for job in jobs:
        connection = cast("Any", job._connection)  # noqa: SLF001 - as above
        settings = connection.settings
        deployment = (settings.data_url, settings.key_prefix, settings.partitions)
        parties.setdefault(deployment, _Party(connection)).add(job)
    return list(parties.values())


def _each(parties: list[_Party[Job]], timeout: float | None) -> Generator[Job]:
    turn = TURN if len(parties) > 1 else None
    waiting = [(party, party.connection.follow(party.watch(timeout, turn))) for party in parties]
    try:
        while waiting:
            for pair in list(waiting):
                party, following = pair
                job_id = next(following, None)
                if job_id is None:
                    waiting.remove(pair)
                else:
                    yield from party.handles.get(job_id, ())
    finally:
        for _, following in waiting:
            following.close()


async def _each_async(parties: list[_Party[AsyncJob]], timeout: float | None) -> AsyncGenerator[AsyncJob]:
    turn = TURN if len(parties) > 1 else None
    waiting = [(party, party.connection.follow(party.watch(timeout, turn))) for party in parties]
    try:
        while waiting:
            for pair in list(waiting):
                party, following = pair
                job_id = await anext(following, None)
                if job_id is None:
                    waiting.remove(pair)
                for job in party.handles.get(job_id or NOTHING, ()):
                    yield job
    finally:
        for _, following in waiting:
            async with aclosing(following):
                pass


def _watch(keys: Keys, job_ids: Sequence[str], known: dict[str, Reference], patience: Patience) -> Following[str, None]:
    """Yield the ids of jobs as they end; at first of those that nobody knows."""
    found = dict(known)
    unknown = [job_id for job_id in job_ids if job_id not in found]
    for start in range(0, len(unknown), BATCH):
        found.update((yield from _look_up(keys, unknown[start : start + BATCH], patience)))
    yield from (job_id for job_id in job_ids if job_id not in found)
    yield from completions(found.values(), patience)


def _look_up(keys: Keys, job_ids: Sequence[str], patience: Patience) -> Operation[dict[str, Reference]]:
    asked = Read(tuple(("HMGET", keys.job(job_id), "flight", "mark") for job_id in job_ids))

    def begin() -> Operation[list[Any]]:
        replies: list[Any] = yield asked
        return replies

    replies = yield from persist(begin, patience)
    return {
        job_id: reference_of(keys, job_id, flight.decode(), (mark or b"").decode())
        for job_id, (flight, mark) in zip(job_ids, replies, strict=True)
        if flight is not None
    }


def _by_turns(operation: Following[str, None], seconds: float) -> Following[str, None]:
    """Carry an operation on, and yield NOTHING whenever it has waited for so long in vain."""
    try:
        step = next(operation)
        while True:
            if isinstance(step, Hear):
                step = operation.send((yield from _hear_by_turns(step, seconds)))
            elif isinstance(step, Step):
                step = yield from _pass(operation, step)
            else:
                yield step
                step = next(operation)
    except StopIteration:
        return
    finally:
        operation.close()


def _pass(operation: Following[str, None], step: Step) -> Generator[Step, Any, Step | str]:
    try:
        reply = yield step
    except ServerUnavailable as away:
        return operation.throw(away)
    return operation.send(reply)


def _hear_by_turns(step: Hear, seconds: float) -> Following[str, Heard]:
    left = step.seconds
    while True:
        heard: Heard = yield Hear(step.inbox, min(left, seconds))
        left -= seconds
        if left <= 0 or heard.rings or heard.out_of_step or heard.over or heard.away is not None:
            return heard
        yield NOTHING
