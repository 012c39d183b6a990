"""Erasing a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from genqueue.keys import Keys

#: "shared": others go on with the flight, which stays; "gone": nobody knows the job.
Erased = Literal["erased", "shared", "gone"]


def purge(keys: Keys, job: str, now_ms: int = 0) -> Call:
    """Return the call that erases all of a job but its key, which is deleted last."""
    return Call(scripts.PURGE, (keys.slot_of_id(job),), (now_ms, job))


def parse_purge(reply: Any) -> Erased:
    """Return what was erased."""
    return cast("Erased", text(reply))
