"""Why a running task was cancelled, for the coroutine that gets the CancelledError, and what it does in spite of it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

Reason = Literal["shutdown", "revoked", "soft", "hard"]

#: The worker is going down: clean up within `CLEANUP_GRACE` seconds; the work may be handed back.
SHUTDOWN: Final = "shutdown"
#: Somebody revoked the task with terminate=True.
REVOKED: Final = "revoked"
#: The soft time limit passed: a coroutine may catch the CancelledError and still return.
SOFT_LIMIT: Final = "soft"
#: The hard time limit passed: the failure is already announced.
HARD_LIMIT: Final = "hard"

#: Seconds a coroutine has for its own cleanup after a cancel at shutdown.
CLEANUP_GRACE: Final = 5.0


class Cancellation:
    """The latest reason for which one task was cancelled; None while it was not."""

    __slots__ = ("reason",)

    def __init__(self) -> None:
        self.reason: Reason | None = None


#: The cancellation of the task around; set by the tracer, inherited by every asyncio task it starts.
current: ContextVar[Cancellation | None] = ContextVar("genqueue_cancellation", default=None)


def reason() -> Reason | None:
    """Return why the task around was cancelled; None when it was not, or outside any task.

    Ask this rather than the CancelledError: libraries that raise their own lose the message it came with.
    """
    cancellation = current.get()
    return cancellation.reason if cancellation is not None else None


async def through(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, and only then let a cancellation that came meanwhile take effect."""
    doing = asyncio.ensure_future(work)
    cut: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError as cancelled:
            cut = cancelled
    if cut is not None:
        doing.exception()  # taken note of: the cancellation is what counts
        raise cut
    return doing.result()
