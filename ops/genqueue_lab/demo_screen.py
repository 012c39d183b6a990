"""How the demo looks: live panels on a terminal, lines with the lane in front anywhere else."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from genqueue.lanes import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from genqueue.events import Event
    from genqueue.lanes import Lane
    from genqueue_lab.demo_runs import Run

_COLOURS: dict[Lane, str] = {"high": "red", "normal": "yellow", "low": "blue"}

#: Characters of an answer on one line.
_LINE = 58

#: Panels drawn in a second.
_FRAMES = 12

#: Columns a panel needs beside the text of an answer.
_BESIDE = 34


class Screen:
    """Where the demo is shown."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal

    def title(self, text: str) -> None:
        """Begin a scene."""
        self._console.print(Text(f"\n== {text}", style="bold"))

    def say(self, text: str) -> None:
        """Tell what happens."""
        self._console.print(Text(text), soft_wrap=not self._live)

    @contextmanager
    def board(self, runs: Sequence[Run]) -> Iterator[Callable[[Run, Event], None]]:
        """Show runs while the block goes on; the block passes on each event, once its run has seen it."""
        if not self._live:
            yield Lines(self._console)
            return
        panels = Panels(runs, self._console)
        with Live(console=self._console, get_renderable=panels.draw, refresh_per_second=_FRAMES):
            yield panels.touch

    def summary(self, runs: Sequence[Run]) -> None:
        """Show every run in a row of a table."""
        table = Table(box=box.SIMPLE_HEAD, title="\nSummary", title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("job")
        table.add_column("lane")
        for name in ("TTFT", "total", "tokens"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("source")
        table.add_column("attempts", justify="right")
        table.add_column("")
        for run in runs:
            table.add_row(*_row(run), style=_COLOURS[run.lane])
        self._console.print(table)


def _row(run: Run) -> tuple[str, ...]:
    first, total = _seconds(run.after(run.first_at)), _seconds(run.after(run.ended_at))
    if run.result is None:
        return run.label, run.lane, first, total, "", "", "", run.note
    tokens, attempts = str(run.result.usage.output_tokens), str(run.result.attempts)
    return run.label, run.lane, first, total, tokens, run.result.source, attempts, run.note


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.2f} s"


class Lines:
    """Prints what happens to runs as lines: seconds since the first event, lane, run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._pending: dict[Run, str] = {}

    def __call__(self, run: Run, event: Event) -> None:
        """Print an event; pieces of an answer are gathered to whole lines."""
        if event.text is not None:
            self._gather(run, event.text)
            return
        if event.type == "queued":
            self._print(run, f"asked: {run.question}")
        elif event.type == "restarted":
            self._pending.pop(run, None)
            self._print(run, f"restarted ({event.fields.get('reason')}): what came so far does not count")
        elif event.terminal:
            self._flush(run)
            self._print(run, f"{event.type} after {_seconds(run.after(run.ended_at))}")

    def _gather(self, run: Run, text: str) -> None:
        words = self._pending.get(run, "") + " ".join(text.split("\n"))
        while len(words) > _LINE:
            at = words.rfind(" ", 1, _LINE + 1)
            cut = at if at > 0 else _LINE
            self._print(run, words[:cut].strip())
            words = words[cut:]
        self._pending[run] = words

    def _flush(self, run: Run) -> None:
        if rest := self._pending.pop(run, "").strip():
            self._print(run, rest)

    def _print(self, run: Run, text: str) -> None:
        seconds = time.monotonic() - self._began
        self._console.print(Text(f"{seconds:6.2f} s  {run.lane:<6} {run.label:>3}  {text}"), soft_wrap=True)


class Panels:
    """Draws runs as one panel for each lane that has any, a line for each run."""

    def __init__(self, runs: Sequence[Run], console: Console) -> None:
        self._runs = runs
        self._console = console
        self._newest: Run | None = None

    def touch(self, run: Run, _: Event) -> None:
        """Make the run's line stand out: it is the newest."""
        self._newest = run

    def draw(self) -> RenderableType:
        """Return the panels as they are now."""
        lanes = [(lane, [run for run in self._runs if run.lane == lane]) for lane in LANES]
        return Group(*(self._panel(lane, runs) for lane, runs in lanes if runs))

    def _panel(self, lane: Lane, runs: Sequence[Run]) -> Panel:
        table = Table.grid(padding=(0, 1))
        width = max(10, self._console.width - _BESIDE)
        for run in runs:
            shown = " ".join(run.text.split())[-width:]
            style = "bold" if run is self._newest else ""
            table.add_row(f"{run.label:>3}", f"{_progress(run):<24}", Text(shown, style, no_wrap=True))
        return Panel(table, title=lane, title_align="left", border_style=_COLOURS[lane])


def _progress(run: Run) -> str:
    if not run.asked_at:
        return "not asked yet"
    if run.ended_at is not None:
        return f"{run.state} in {_seconds(run.after(run.ended_at))}"
    return f"{run.state} {_seconds(time.monotonic() - run.asked_at)}"
