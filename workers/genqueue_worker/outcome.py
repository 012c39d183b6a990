"""How an attempt ended: a closed union, settled by one match in `settlement`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from genqueue.ledger import Settlement

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from genqueue.ledger import Entry

#: Longest back-off between two tries, in seconds.
MAX_DELAY = 60.0

#: Longest wait a provider may ask for, in seconds; a job's deadline may end it sooner.
MAX_TOLD = 86_400.0

#: Back-off before the second try, in seconds; doubled for each further one.
FIRST_DELAY = 1.0

#: How many waits begin anywhere down to nothing.
FULL_JITTERS = 4

#: Jitter on top of a told moment: a share of the wait, and its bounds in seconds.
SPREAD = 0.1
MIN_SPREAD = 0.25
MAX_SPREAD = 10.0


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The answer is whole.

    Attributes:
        result: the folded answer as a JSON document.
        completed: fields of the terminal event.
        replay: entries that give the answer again; None keeps it out of the cache.
    """

    result: bytes
    completed: dict[str, str]
    replay: Sequence[Entry] | None


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, and asking again would not help.

    Attributes:
        detail: further fields of the terminal event.
    """

    code: str
    message: str
    retryable: bool = False
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retry:
    """No answer now; ask again in `delay` seconds, while there are tries left."""

    code: str
    message: str
    delay: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The token is void: somebody else ended the flight or runs it. There is nothing to settle."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Revoked through Celery."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Cut off by our own shutdown, or not for this worker: available to others, and not a try.

    Attributes:
        delay: for how many seconds nobody is to take it.
    """

    delay: float = 0.0


Outcome = Succeeded | Failed | Retry | Refused | Cancelled | Interrupted


@dataclass(frozen=True, slots=True)
class Unsent:
    """An attempt's identity and those of its entries that the stream may not have yet.

    Attributes:
        first: number of the first entry, from 1.
    """

    flight: str
    token: str
    first: int
    entries: Sequence[Entry] = field(default_factory=list)


def settlement(outcome: Outcome, unsent: Unsent) -> Settlement | None:
    """Return what to tell the ledger about an outcome; None when there is nothing to tell."""
    flight, token, first, entries = unsent.flight, unsent.token, unsent.first, unsent.entries
    match outcome:
        case Succeeded(result, completed, replay):
            return Settlement(
                flight, token, "succeeded", first, entries, result=result, replay=replay, detail=completed
            )
        case Failed(code, message, retryable, further):
            detail = {**_failure(code, message, retryable=retryable), **further}
            return Settlement(flight, token, "failed", first, entries, detail=detail)
        case Retry(code, message, delay):
            detail = _failure(code, message, retryable=True)
            return Settlement(flight, token, "retry", first, entries, int(delay * 1000), detail=detail)
        case Cancelled():
            return Settlement(flight, token, "cancelled", first, entries)
        case Interrupted(delay):
            return Settlement(flight, token, "interrupted", first, entries, int(delay * 1000))
        case Refused():
            return None
        case _:
            assert_never(outcome)


def _failure(code: str, message: str, *, retryable: bool) -> dict[str, str]:
    return {"code": code, "message": message, "retryable": "1" if retryable else "0"}


def back_off(tries: int, told: float | None, chance: random.Random) -> float:
    """Return seconds to wait before the next try: exponential, jittered, never sooner than the provider told.

    The jitter is full at first, so that what failed together comes back spread out. From the fifth wait on it is over
    the upper half: together these last longer than a provider's short outage, which so costs no job all its tries.

    Args:
        tries: tries that failed before this one.
        told: seconds the provider asked for, if it did; up to a tenth more, so that a told moment makes no herd.
        chance: source of the jitter.
    """
    ceiling = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(tries, 60))
    delay = chance.uniform(ceiling / 2 if tries >= FULL_JITTERS else 0.0, ceiling)
    if not told:
        return delay
    told = min(told, MAX_TOLD)
    return max(delay, told + chance.uniform(0.0, min(max(told * SPREAD, MIN_SPREAD), MAX_SPREAD)))
