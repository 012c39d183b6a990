"""`genqueue status`, `result` and `cancel`."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from genqueue.cli.views import write_json
from genqueue.client import Client

if TYPE_CHECKING:
    from genqueue.result import Status


@click.command()
@click.argument("name", metavar="ID")
@click.option("--tenant", default="default", show_default=True, help="Of a job that genqueue.submit admitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each job.")
def status(name: str, tenant: str, *, as_json: bool) -> None:
    """Show where a job is.

    ID is a job's, a flight's, or that of a Celery task in Flower: a flight's task shows all jobs aboard.
    """
    with Client() as client:
        for number, job in enumerate(client.find(name, tenant=tenant)):
            found = job.status()
            if as_json:
                write_json(asdict(found))
                continue
            if number:
                click.echo()
            for label, value in rows_of(found, time.time()):
                click.echo(f"{label:<9} {value}")


def rows_of(found: Status, now: float) -> list[tuple[str, str]]:
    """Return a status as names and values; `now` in seconds since 1970."""
    left = found.deadline - now
    moment = datetime.fromtimestamp(found.deadline, UTC).isoformat(timespec="seconds")
    replay = [("replays", found.replayed_from)] if found.replayed_from else []
    return [
        ("job", found.job_id),
        ("state", found.state),
        ("lane", found.lane),
        ("tenant", found.tenant),
        ("deadline", moment if found.ended else f"{moment} ({left:.0f} s left)"),
        ("attempts", f"{found.attempt} ({found.tries} failed calls, {found.losses} lost workers)"),
        ("flight", found.flight),
        ("task", found.task_id or "none"),
        ("trace", found.traceparent or "none"),
        *replay,
    ]


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Give up waiting; the job goes on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: text, content, usage, timings, ...")
def result(job_id: str, timeout: float | None, *, as_json: bool) -> None:
    """Wait for a job's end and print its answer."""
    with Client() as client:
        answer = client.job(job_id).result(timeout)
    if as_json:
        write_json(asdict(answer))
    else:
        click.echo(answer.text)


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cancel(job_id: str, *, as_json: bool) -> None:
    """End a job; equal questions of others go on."""
    with Client() as client:
        cancelled = client.job(job_id).cancel()
    if as_json:
        write_json({"job_id": job_id, "cancelled": cancelled})
    else:
        click.echo(f"cancelled {job_id}" if cancelled else f"{job_id} had ended before")
