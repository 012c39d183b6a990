"""`genqueue tail`."""

from __future__ import annotations

import click

from genqueue.cli.follow import follow
from genqueue.cli.views import choose_view
from genqueue.client import Client


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--after", metavar="ID", help="Resume behind this event; from the first when not given.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as one line of JSON.")
def tail(job_id: str, after: str | None, *, as_json: bool) -> None:
    """Follow a job's answer as it is written, from its beginning or from behind an event.

    The text goes to stdout, all else to stderr. Ctrl-C ends the reading, not the job.
    """
    with Client() as client:
        job = client.job(job_id)
        follow(job, choose_view(job, as_json=as_json), after)
