"""Following one job into a view, until its end or Ctrl-C."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from genqueue.result import ending_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue.cli.views import View
    from genqueue.client import Job
    from genqueue.events import Event


#: What a reader is told of an outage, by the event that the SDK logs.
_NOTICES: Final = {
    "server.away": "[the data server is away; trying again]",
    "server.back": "[the data server is back]",
}


def follow(job: Job, view: View, after: str | None = None) -> None:
    """Show a job's events behind `after`; Ctrl-C leaves the job alone and says how to resume.

    Raises:
        JobError: the job ended without an answer.
        KeyboardInterrupt: Ctrl-C.
    """
    last: Event | None = None
    try:
        with view, _telling_of_outages(view):
            for event in job.tail(after):
                view.show(event)
                last = event
    except KeyboardInterrupt:
        behind = last.id if last else after
        resume = f"genqueue tail {job.id}" + (f" --after {behind}" if behind else "")
        click.echo(f"\nstopped reading; the job goes on. Resume with: {resume}", err=True)
        raise
    if last is None:
        click.echo(f"job {job.id} had ended; nothing comes behind {after}", err=True)
    elif last.type != "completed":
        state = last.fields.get("reason", "cancelled") if last.type == "left" else last.type
        raise ending_error(job.id, state, last.fields)


class _Notices(logging.Handler):
    """Shows outages in a view."""

    def __init__(self, view: View) -> None:
        super().__init__(logging.INFO)
        self._view = view
        self._away = False

    def emit(self, record: logging.LogRecord) -> None:
        """Show the line of an event that has one, once: a reader may find out twice, by listening and by reading."""
        event = record.getMessage().partition(" ")[0]
        if event in _NOTICES and self._away != (event == "server.away"):
            self._away = not self._away
            self._view.note(_NOTICES[event])


@contextmanager
def _telling_of_outages(view: View) -> Iterator[None]:
    log, notices = logging.getLogger("genqueue.patience"), _Notices(view)
    before = log.level, log.propagate
    log.addHandler(notices)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(notices)
        log.setLevel(before[0])
        log.propagate = before[1]
