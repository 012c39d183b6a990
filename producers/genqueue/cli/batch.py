"""Many requests from a file, and a line for what became of each."""

from __future__ import annotations

import errno
import json
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from genqueue.client import Job
from genqueue.errors import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genqueue.client import Client
    from genqueue.errors import GenqueueError

#: Requests queued before their lines are printed; Ctrl-C waits for these lines.
TURN: Final = 100


def read_items(raw: bytes, name: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines; empty lines are skipped.

    Raises:
        click.UsageError: a line is no JSON object; nothing was queued.
    """
    items = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"line {number} of {name} is not JSON: {error}") from error
        if not isinstance(item, dict):
            raise click.UsageError(f'line {number} of {name} is no object such as {{"contents": "Hello"}}.')
        items.append(item)
    if not items:
        raise click.UsageError(f"{name} has no requests.")
    return items


def submit_in_turns(
    client: Client, items: list[dict[str, Any]], defaults: dict[str, Any]
) -> Iterator[Job | GenqueueError]:
    """Queue requests and yield what became of each, in order; those behind an outage of the server are not tried."""
    away: GenqueueError | None = None
    with later() as interrupted:
        for start in range(0, len(items), TURN):
            if interrupted.is_set():
                click.echo(f"interrupted behind {start} of {len(items)} requests; the others were not queued", err=True)
                raise KeyboardInterrupt
            turn = items[start : start + TURN]
            outcomes = [away] * len(turn) if away else client.submit_many(turn, **defaults)
            yield from outcomes
            away = outcomes[-1] if type(outcomes[-1]) is ServerUnavailable else None


@contextmanager
def later() -> Iterator[threading.Event]:
    """Put off Ctrl-C while the block runs, and say whether it came; a second one comes at once."""
    interrupted, usual = threading.Event(), signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:  # a process in the background is not interrupted at all
        yield interrupted
        return

    def note(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, usual)


def show_outcomes(outcomes: Iterable[Job | GenqueueError], *, as_json: bool) -> bool:
    """Print a line for each, in order; returns whether all were queued.

    Where stdout fails, the rest goes to stderr: no id of an accepted job must be lost.
    """
    failed = False
    broken: OSError | None = OSError(errno.EBADF, "stdout is closed") if sys.stdout is None else None
    for outcome in outcomes:
        failed |= not isinstance(outcome, Job)
        line = _document(outcome) if as_json else _line(outcome)
        if broken is None:
            try:
                click.echo(line)
                continue
            except OSError as error:
                broken = error
        click.echo(line, err=True)
    if broken is not None:
        raise broken
    return not failed


def _line(outcome: Job | GenqueueError) -> str:
    return outcome.id if isinstance(outcome, Job) else "error: " + " ".join(str(outcome).split())


def _document(outcome: Job | GenqueueError) -> str:
    if isinstance(outcome, Job):
        fields: dict[str, Any] = {
            "job_id": outcome.id,
            "stream_key": outcome.stream_key,
            "leave_mark": outcome.leave_mark,
        }
    else:
        fields = {"error": type(outcome).__name__, "message": str(outcome)}
        for name in ("field", "job_id", "lane", "retry_after", "reason"):
            if hasattr(outcome, name):
                fields[name] = getattr(outcome, name)
    return json.dumps(fields, ensure_ascii=False)
