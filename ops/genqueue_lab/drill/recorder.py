"""Copies streams as they end, for drills in which they expire."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from genqueue_lab.drill.audit import ENDS, fields_of, streams_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.events import Event
    from genqueue_lab.drill.load import Accepted
    from genqueue_lab.drill.stage import Stage

#: Seconds between two looks at who has ended; far below any stream's time to live.
LOOK: Final = 0.25


class Recorder:
    """Reads each stream once, as soon as its flight has ended; a context manager with a thread of its own.

    Attributes:
        copies: the streams by flight.
    """

    def __init__(self, stage: Stage, accepted: Sequence[Accepted]) -> None:
        self.copies: dict[str, Sequence[Event]] = {}
        self._stage = stage
        self._accepted = accepted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK):
            self._look()
        self._look()

    def _look(self) -> None:
        missing = [job.flight for job in list(self._accepted) if job.flight not in self.copies]
        states = fields_of(self._stage, missing, "state")
        ended = [flight for flight, (state,) in zip(missing, states, strict=True) if state in ENDS]
        self.copies |= streams_of(self._stage, ended)
