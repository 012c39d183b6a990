"""Dead letters: flights that failed in a way another try might not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from genqueue import scripts
from genqueue.ledger.entries import text
from genqueue.scripts import Call

if TYPE_CHECKING:
    from genqueue.keys import Keys

#: "not_dead": it is none, or was dropped before.
Dropped = Literal["dropped", "not_dead", "gone"]


def drop(keys: Keys, flight: str) -> Call:
    """Return the call that lets go of a dead letter."""
    return Call(scripts.DROP, (keys.slot_of_id(flight),), (0, flight))


def parse_drop(reply: Any) -> Dropped:
    """Return what became of it."""
    return cast("Dropped", text(reply))
