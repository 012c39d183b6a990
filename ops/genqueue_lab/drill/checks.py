"""What must be true of a stream, whatever happened while it was written. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genqueue.events import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genqueue.events import Event

#: What readers have to discard when another attempt begins anew.
_SHOWN: Final = frozenset({"delta", "thought", "part"})

#: What tells them that another attempt begins.
_BEGINNINGS: Final = frozenset({"restarted", "continued"})


def faults_of(events: Sequence[Event]) -> list[str]:
    """Return what is wrong with a flight's whole stream, a sentence each; nothing when it is sound."""
    if not events:
        return ["the stream is empty or gone"]
    return [*_ends(events), *_numbers(events), *_restarts(events)]


def _ends(events: Sequence[Event]) -> Iterator[str]:
    """Exactly one end, as the last entry; `queued` as the first."""
    ends = [event.type for event in events if event.type in TERMINAL]
    if not ends:
        yield f"no end: the last entry is {events[-1].type}"
    elif len(ends) > 1:
        yield f"ends {len(ends)} times: {', '.join(ends)}"
    elif events[-1].type not in TERMINAL:
        yield f"goes on behind its end with {events[-1].type}"
    if events[0].type != "queued" or [event.type for event in events].count("queued") != 1:
        yield f"does not begin with its one queued: {events[0].type}"


def _numbers(events: Sequence[Event]) -> Iterator[str]:
    """Attempts never go back, and each one's entries are numbered from 1 without a gap, the first being `started`."""
    attempt, number = 0, 0
    for event in events:
        if event.attempt < attempt:
            yield f"{event.type} {event.id} of attempt {event.attempt} behind attempt {attempt}"
        if event.attempt > attempt:
            attempt, number = event.attempt, 0
        if event.n == 0:
            continue
        if event.n != number + 1:
            yield f"{event.type} {event.id} of attempt {attempt} is number {event.n} behind {number}"
        if (event.n == 1) != (event.type == "started"):
            yield f"entry 1 of attempt {attempt} and `started` are not the same: {event.type} {event.id} is {event.n}"
        number = event.n


def _restarts(events: Sequence[Event]) -> Iterator[str]:
    """Whoever begins anew behind something that was shown says so first."""
    attempt, shown = 0, False
    for event in events:
        if event.type in _BEGINNINGS:
            attempt, shown = event.attempt, False
        if event.type in _SHOWN:
            if shown and event.attempt != attempt:
                yield f"{event.type} {event.id} of attempt {event.attempt} follows what was shown, without restarted"
            attempt, shown = event.attempt, True
