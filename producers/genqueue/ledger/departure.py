"""Taking jobs off their flight."""

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
        left_ms: until its deadline, which has not passed yet (status "early").
    """

    status: Literal["ended", "left", "already", "done", "early", "gone"]
    inbox: str | None = None
    token: str | None = None
    reason: str | None = None
    state: str | None = None
    left_ms: int | None = None


def leave(keys: Keys, job: str, reason: Reason, now_ms: int = 0) -> Call:
    """Return the call that takes a job off its flight; one that "expired" only once its deadline has passed."""
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
        case ["early", left_ms]:
            return Departed("early", left_ms=int(left_ms))
    return Departed("gone")


def revoke(keys: Keys, flight: str, now_ms: int = 0) -> Call:
    """Return the call that takes every job off a flight."""
    return Call(scripts.REVOKE, (keys.slot_of_id(flight),), (now_ms, flight))


def parse_revoke(reply: Any) -> Departed:
    """Return what that did: "ended", "done" or "gone"."""
    return parse_leave(reply)
