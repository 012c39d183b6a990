"""Erasing jobs: every trace of one, or of all of a tenant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genqueue import ledger
from genqueue.patience import BRIEF, ask, persist
from genqueue.reservation import Reservation
from genqueue.steps import Run, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from genqueue.deployment import Deployment
    from genqueue.keys import Keys
    from genqueue.payload.blobs import BlobStore
    from genqueue.steps import Operation

#: Keys one look at the server's key space goes over.
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Purged:
    """What was erased.

    Attributes:
        jobs: jobs, with all that was only theirs.
        answers: cached answers that were left of earlier jobs.
    """

    jobs: int = 0
    answers: int = 0


def purge(deployment: Deployment, job: str, blobs: BlobStore | None) -> Operation[bool]:
    """Erase a job; returns False when nobody knows it. A flight that others share goes on without it.

    What is still running is called off, and its worker can write no more. May be repeated whenever it was cut off: the
    job's key, by which all else is found, goes last.

    Raises:
        ServerUnavailable: the data server, or the blob store, does not answer; purge again.
    """
    keys = deployment.keys
    yield from persist(deployment.enter, BRIEF)
    fields = ("HMGET", keys.job(job), "flight", "tenant", "flight_tenant", "idem")
    ((flight, tenant, flight_tenant, idem),) = yield from ask((fields,), BRIEF)
    if flight is None:
        return False
    (paid_by,) = yield from ask((("HGET", keys.flight(flight.decode()), "tenant"),), BRIEF)
    erased = ledger.parse_purge((yield from persist(partial(_run, keys, job), BRIEF)))
    if erased == "erased" and blobs is not None:
        owner = paid_by or flight_tenant or tenant
        yield Work(partial(blobs.delete, owner.decode(), flight.decode()))
    if idem is not None:
        yield from _forget(idem, job)
    yield from ask((("DEL", keys.job(job)),), BRIEF)
    return True


def purge_tenant(deployment: Deployment, tenant: str, blobs: BlobStore | None) -> Operation[Purged]:
    """Erase every job of a tenant and the answers it paid for, until a look at all keys finds none; raises as `purge`.

    Whoever goes on submitting for the tenant meanwhile keeps this going.
    """
    total = Purged()
    while True:
        found = yield from _pass(deployment, tenant, blobs)
        total = Purged(total.jobs + found.jobs, total.answers + found.answers)
        if found == Purged():
            return total


def _pass(deployment: Deployment, tenant: str, blobs: BlobStore | None) -> Operation[Purged]:
    def job(name: str) -> Operation[bool]:
        return purge(deployment, name.rpartition(":")[2], blobs)

    prefix = deployment.keys.prefix
    jobs = yield from _each(f"{prefix}:{{*}}:job:*", tenant, job)
    answers = yield from _each(f"{prefix}:{{*}}:cache:*", tenant, _delete)
    return Purged(jobs, answers)


def _each(pattern: str, tenant: str, erase: Callable[[str], Operation[bool]]) -> Operation[int]:
    """Erase what every key of a pattern stands for whose hash names the tenant; returns how many there were."""
    count, cursor = 0, 0
    while True:
        ((cursor, names),) = yield from ask((("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE),), BRIEF)
        tenants = (yield from ask((("HGET", name.decode(), "tenant") for name in names), BRIEF)) if names else ()
        for name, found in zip(names, tenants, strict=True):
            if found == tenant.encode():
                count += yield from erase(name.decode())
        if not int(cursor):
            return count


def _delete(name: str) -> Operation[bool]:
    (deleted,) = yield from ask((("DEL", name),), BRIEF)
    return bool(deleted)


def _run(keys: Keys, job: str) -> Operation[Any]:
    return (yield Run(ledger.purge(keys, job)))


def _forget(idem: bytes, job: str) -> Operation[None]:
    """Delete an idempotency entry if it is the job's still."""
    (stored,) = yield from ask((("GET", idem.decode()),), BRIEF)
    if stored is not None and Reservation.parse(stored).job == job:
        yield from ask((("DEL", idem.decode()),), BRIEF)
