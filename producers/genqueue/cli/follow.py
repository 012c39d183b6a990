"""Following one job into a view, until its end or Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from genqueue.result import ending_error

if TYPE_CHECKING:
    from genqueue.cli.views import View
    from genqueue.client import Job
    from genqueue.events import Event


def follow(job: Job, view: View, after: str | None = None) -> None:
    """Show a job's events behind `after`; Ctrl-C leaves the job alone and says how to resume.

    Raises:
        JobError: the job ended without an answer.
        KeyboardInterrupt: Ctrl-C.
    """
    last: Event | None = None
    try:
        with view:
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
