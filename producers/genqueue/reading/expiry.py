"""When somebody who waits for a job has to end it: its deadline passed, and no worker is there to see to it. No I/O."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.ledger import Departed

#: Seconds past a deadline that are the fleet's, and over which those who wait for the same moment spread behind that.
GRACE: Final = 0.25
SPREAD: Final = 0.5

#: Seconds after which who has ended a job, and saw nothing of it, looks again: a server that crashed may have lost it.
AGAIN: Final = 10.0

#: Replies to these tell a deadline and the server's clock, which alone counts: this machine's may be wrong by hours.
CLOCK: Final = ("TIME",)


def left(deadline: bytes | str | None, clock: Sequence[bytes | int]) -> float:
    """Return seconds until a deadline (ms since 1970) by the server's clock; infinite without one."""
    seconds, microseconds = clock
    return int(deadline) / 1000 - int(seconds) - int(microseconds) / 1e6 if deadline else math.inf


def moment(deadline: bytes | None, clock: Sequence[bytes | int]) -> float:
    """Return the moment, by this machine's monotonic clock, at which to end a job."""
    return _behind(left(deadline, clock))


def next_moment(departed: Departed) -> float:
    """Return the moment at which to do that again, if need be."""
    return time.monotonic() + AGAIN if departed.left_ms is None else _behind(departed.left_ms / 1000)


def _behind(seconds: float) -> float:
    return time.monotonic() + seconds + GRACE + random.uniform(0.0, SPREAD)  # noqa: S311 - no secret
