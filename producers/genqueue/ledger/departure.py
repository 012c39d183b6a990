"""Taking a job off its flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from genqueue.keys import Keys

Reason = Literal["cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class Departed:
    """What a job's leaving did.

    Attributes:
        inbox, token: of the worker that ran the flight, None without one (status "ended", "left").
        reason: why it had left before (status "already").
        state: how its flight had ended (status "done").
    """

    status: Literal["ended", "left", "already", "done", "gone"]
    inbox: str | None = None
    token: str | None = None
    reason: str | None = None
    state: str | None = None


def leave(keys: Keys, job: str, reason: Reason, now_ms: int = 0) -> Call:
    """Return the call that takes a job off its flight."""
    return Call(scripts.LEAVE, (keys.slot_of_id(job),), (now_ms, job, reason))


def parse_leave(reply: Any) -> Departed:
    """Return what a job's leaving did."""
    match list(map(text, reply)):
        case [("ended" | "left") as status, inbox, token]:
            return Departed(cast("Any", status), inbox=inbox or None, token=token or None)
        case ["already", reason]:
            return Departed("already", reason=reason)
        case ["done", state]:
            return Departed("done", state=state)
    return Departed("gone")
