"""The live display on a terminal: the answer, and under it a line that says how it comes along."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from genqueue.cli.views import Stopwatch, notice, printable, summary

if TYPE_CHECKING:
    from genqueue.events import Event

#: Redraws of the status line in a second.
REFRESH = 10


class LiveView:
    """Prints each finished row of the answer for good, and redraws only its last row and the status line.

    Args:
        lane: the job's lane.
        began: as for Stopwatch.
        console: where to draw; stdout when None.
    """

    def __init__(self, lane: str, began: float | None = None, console: Console | None = None) -> None:
        self._lane = lane
        self._console = console or Console(highlight=False)
        self._stopwatch = Stopwatch(began)
        self._since = time.monotonic()
        self._state = "queued"
        self._pieces = 0
        self._row, self._style = "", ""
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._render, console=self._console, transient=True, refresh_per_second=REFRESH
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_row()
        self._live.stop()

    def show(self, event: Event) -> None:
        """Draw what the event adds."""
        self._stopwatch.saw(event)
        match event.type:
            case "delta":
                self._add(event.text or "", "")
            case "thought":
                self._add(event.thought or "", "dim italic")
            case "part" if event.about == "part":
                self._add(event.fields.get("json", "") + "\n", "yellow")
            case "started":
                self._enter("running" if event.attempt < 2 else f"running, attempt {event.attempt}")
            case "waiting":
                self._enter("waiting")
                self._say(notice(event), "yellow")
            case "restarted":
                self._pieces = 0
                self._say(notice(event), "yellow")
            case "continued":
                self._say(notice(event), "yellow")
            case "completed":
                self._say(summary(event, self._stopwatch), "green")

    def note(self, line: str) -> None:
        """Draw a line that no event brought."""
        self._say(line, "yellow")

    def _enter(self, state: str) -> None:
        self._state = state
        self._live.refresh()

    def _add(self, text: str, style: str) -> None:
        if style != self._style:
            self._end_row()
            self._style = style
        self._pieces += 1
        *rows, last = (self._row + printable(text)).split("\n")
        wrapped = Text(last).wrap(self._console, self._console.width)
        settled = [*rows, *(row.plain for row in wrapped[:-1])]
        self._row = wrapped[-1].plain if wrapped else ""
        for row in settled:
            self._console.print(Text(row, self._style))

    def _end_row(self) -> None:
        row, self._row = self._row, ""
        if row:
            self._console.print(Text(row, self._style))

    def _say(self, line: str, style: str) -> None:
        self._end_row()
        self._console.print(Text(line, style))

    def _render(self) -> Group:
        parts = [self._lane, self._state]
        if self._pieces:
            parts.append(f"{self._pieces} pieces")
        if self._stopwatch.ttft is not None:
            parts.append(f"TTFT {self._stopwatch.ttft:.3f} s")
        parts.append(f"{time.monotonic() - self._since:.1f} s")
        self._spinner.update(text=Text(" · ".join(parts), "cyan", no_wrap=True, overflow="ellipsis"))
        row = [Text(self._row, self._style)] if self._row else []
        return Group(*row, self._spinner)
