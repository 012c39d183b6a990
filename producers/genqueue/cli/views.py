"""What following a job looks like: JSON lines, plain text, or a live display on a terminal."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

if TYPE_CHECKING:
    from genqueue.client import Job
    from genqueue.events import Event

#: Control characters, which could make a terminal do more than show text; line ends and tabs stay.
_CONTROLS = dict.fromkeys(code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t")


class View(Protocol):
    """Shows one job's events; entered before the first and left after the last."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End, whether or not the job did."""
        ...

    def show(self, event: Event) -> None:
        """Show an event."""
        ...

    def note(self, line: str) -> None:
        """Show a line that no event brought."""
        ...


def choose_view(job: Job, *, as_json: bool, began: float | None = None) -> View:
    """Return the view for stdout; `began` is the monotonic time of the submit, when this process made it."""
    if as_json:
        return JsonView(job.id)
    if not sys.stdout.isatty():
        return PlainView(began)
    try:
        from genqueue.cli.live import LiveView  # noqa: PLC0415 - rich is not part of the SDK
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return PlainView(began, clean=printable)
    return LiveView(job.status().lane, began)


def printable(text: str) -> str:
    """Return text that a terminal only shows."""
    return text.translate(_CONTROLS)


def write_json(document: object) -> None:
    """Print a document as one line."""
    click.echo(json.dumps(document, ensure_ascii=False))


class JsonView:
    """One line of JSON for each event."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        """Print the event."""
        write_json(
            {
                "job_id": self._job_id,
                "id": event.id,
                "type": event.type,
                "attempt": event.attempt,
                "n": event.n,
                "fields": dict(event.fields),
            }
        )

    def note(self, line: str) -> None:
        """Print a line on stderr."""
        click.echo(line, err=True)


class PlainView:
    """The answer on stdout as it comes; what happens to the job, and the summary, on stderr."""

    def __init__(self, began: float | None = None, *, clean: Any = str) -> None:
        self._stopwatch = Stopwatch(began)
        self._clean = clean
        self._line_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_line()

    def show(self, event: Event) -> None:
        """Print what the event adds."""
        self._stopwatch.saw(event)
        match event.type:
            case "delta":
                self._write(event.text or "")
            case "part" if event.about == "part":
                self._end_line()
                self._write(event.fields.get("json", "") + "\n")
            case "restarted":
                self.note(notice(event))
            case "waiting" | "continued":
                # the answer's own line may go on behind it
                click.echo("\n" * self._line_open + notice(event), err=True)
            case "completed":
                self.note(summary(event, self._stopwatch))

    def note(self, line: str) -> None:
        """Print a line on stderr."""
        self._end_line()
        click.echo(line, err=True)

    def _write(self, text: str) -> None:
        text = self._clean(text)
        if text:
            click.echo(text, nl=False)
            self._line_open = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n")


class Stopwatch:
    """Time to first token as this reader knows it.

    Args:
        began: monotonic time of the submit; None for a job that was submitted before, whose own timings count.
    """

    def __init__(self, began: float | None) -> None:
        self.began = began
        self.ttft: float | None = None

    def saw(self, event: Event) -> None:
        """Take the time of the first event with content."""
        if self.ttft is None and self.began is not None and event.type in {"delta", "thought", "part"}:
            self.ttft = time.monotonic() - self.began

    def final(self, timings: dict[str, float]) -> float | None:
        """Return the seconds from submit to first token, once the job's own timings are known."""
        if self.ttft is None and "ttft" in timings:
            return timings.get("queued", 0.0) + timings["ttft"]
        return self.ttft


def notice(event: Event) -> str:
    """Return a line for an event that delays the answer."""
    if event.type == "restarted":
        return f"[restarted ({event.fields.get('reason', '')}): the answer begins again]"
    if event.type == "continued":
        return f"[continued ({event.fields.get('reason', '')}): another attempt goes on from here]"
    until = int(event.fields.get("until") or 0) / 1000
    clock = time.strftime("%H:%M:%S", time.localtime(until))
    why = event.fields.get("code") or event.fields.get("reason", "")
    return f"[waiting until {clock} ({why})]"


def summary(event: Event, stopwatch: Stopwatch) -> str:
    """Return the last line of an answer from its `completed` event."""
    fields = event.fields
    usage, timings = json.loads(fields.get("usage") or "{}"), json.loads(fields.get("timings") or "{}")
    ttft = stopwatch.final(timings)
    parts = [
        f"source {fields.get('source', 'live')}",
        "TTFT unknown" if ttft is None else f"TTFT {ttft:.3f} s",
        f"{usage.get('output_tokens', 0)} tokens",
        f"finish {fields.get('finish_reason', '')}",
    ]
    if fields.get("fallback_from"):
        parts.append(f"by {fields.get('model', '')} instead of {fields['fallback_from']}")
    if fields.get("continued", "0") != "0":
        parts.append("continued once" if fields["continued"] == "1" else f"continued {fields['continued']} times")
    return f"[{', '.join(parts)}]"
