"""One question of the demo and what became of it, as its reader saw it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genqueue.events import Event
    from genqueue.lanes import Lane
    from genqueue.result import Result

#: Characters of an answer after which it counts as flowing.
FLOWING = 60


@dataclass(slots=True, eq=False)
class Run:
    """One submission and its stream. Moments are seconds of the event loop's clock.

    Attributes:
        number: its number in the demo.
        note: what is special about it, for the summary.
        state: the last event's type, other than pieces of the answer.
        text: the answer so far, without what a restart discarded.
        discarded: what the last restart discarded.
        asked_at, started_at, first_at, ended_at: when it was submitted; began first; gave its first text; ended.
        restarted_at: when a restart was seen.
        job_id: its job, once it is submitted.
        accepted, started, flowing: set once its stream, its first attempt, some of its answer is there; all by the end.
    """

    number: int
    lane: Lane
    question: str
    note: str = ""
    state: str = "queued"
    text: str = ""
    discarded: str = ""
    asked_at: float = 0.0
    started_at: float | None = None
    first_at: float | None = None
    restarted_at: float | None = None
    ended_at: float | None = None
    result: Result | None = None
    job_id: str = ""
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def label(self) -> str:
        """Short name for the screen."""
        return f"#{self.number}"

    def see(self, event: Event, now: float) -> None:
        """Take the next event of the stream."""
        self.accepted.set()
        if event.text is not None:
            self.first_at = now if self.first_at is None else self.first_at
            self.text += event.text
        else:
            self.state = event.type
        if event.type == "started" and self.started_at is None:
            self.started_at = now
            self.started.set()
        elif event.type == "restarted":
            self.discarded, self.text, self.restarted_at = self.text, "", now
        elif event.terminal:
            self.ended_at = now
        if len(self.text) >= FLOWING:
            self.flowing.set()

    def close(self) -> None:
        """Let nobody wait for this run any more."""
        for event in (self.accepted, self.started, self.flowing):
            event.set()

    def after(self, moment: float | None) -> float | None:
        """Return the seconds from its submission to a moment; None when that never came."""
        return None if moment is None else moment - self.asked_at
