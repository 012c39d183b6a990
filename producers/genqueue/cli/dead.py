"""`genqueue dead`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from genqueue.cli.submit import present
from genqueue.cli.views import printable, write_json
from genqueue.client import Client
from genqueue.dead import MAX_LIMIT
from genqueue.errors import SubmitUncertain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue.dead import DeadLetter, PastAttempt

#: Longest message a line of the list repeats, in characters.
SHOWN = 60


@click.group()
def dead() -> None:
    """Look after jobs that failed in a way the same request may not fail again.

    Such a job is kept with its request and what became of its attempts, for GENQUEUE_DEAD_TTL.
    """


@dead.command(name="list")
@click.option("--tenant", help="Only those with a job of this tenant.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=100, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_(tenant: str | None, limit: int, *, as_json: bool) -> None:
    """List dead jobs, the newest first."""
    with Client() as client:
        letters = client.dead(limit, tenant)
    if as_json:
        for letter in letters:
            write_json(_document(letter))
        return
    rows = [("JOB", "ENDED", "LANE", "TENANT", "ATTEMPTS", "WHY"), *map(_row, letters)]
    if letters:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        click.echo("no dead letters", err=True)


@dead.command()
@click.argument("job_id", metavar="JOB")
@click.option("--prompt", is_flag=True, help="Show the request too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(job_id: str, *, prompt: bool, as_json: bool) -> None:
    """Show a dead job and what became of its attempts; its request only when told to."""
    with Client() as client:
        letter = client.dead_letter(job_id, with_request=prompt)
    if as_json:
        write_json(_document(letter, prompt=prompt))
        return
    for label, value in rows_of(letter):
        click.echo(f"{label:<10} {value}")
    if prompt and letter.request is not None:
        click.echo(f"\n{json.dumps(letter.request, ensure_ascii=False, indent=2)}")


@dead.command()
@click.argument("job_id", metavar="JOB")
@click.option("--lane", metavar="[high|normal|low]", help="Priority; the dead job's when not given.")
@click.option("--deadline", type=float, metavar="SECONDS", help="After which the answer is of no use; by lane.")
@click.option("--idempotency-key", metavar="KEY", help="Under the same key comes the same job, for a day.")
@click.option("--job-id", "new_id", metavar="ID", help="The new job's id: that of a replay that ended uncertain.")
@click.option("--on-done", metavar="URL", help="Where the end of the new job is told.")
@click.option("--follow", "tailing", is_flag=True, help="Follow the answer; without it the new job's id is printed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: where the job is, or with --follow its events.")
def replay(job_id: str, *, new_id: str | None, tailing: bool, as_json: bool, **given: Any) -> None:
    """Queue a dead job's request as a new job, and print its id. The dead one stays until it is dropped."""
    options = {name: value for name, value in {**given, "job_id": new_id}.items() if value is not None}
    with Client() as client:
        began = time.monotonic()
        try:
            job = client.replay(job_id, **options)
        except SubmitUncertain as error:
            click.echo(f"ask again with: genqueue dead replay {job_id} --job-id {error.job_id}", err=True)
            raise
        present(job, as_json=as_json, tailing=tailing, began=began)


@dead.command()
@click.argument("job_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def drop(job_id: str, *, as_json: bool) -> None:
    """Drop a dead job: its request, its history and its inline data."""
    with Client() as client:
        dropped = client.drop(job_id)
    if as_json:
        write_json({"job_id": job_id, "dropped": dropped})
    else:
        click.echo(f"dropped {job_id}" if dropped else f"{job_id} is no dead letter, or one no more")


def rows_of(letter: DeadLetter) -> list[tuple[str, str]]:
    """Return a dead letter as names and values, its history at the end."""
    others = [job_id for job_id in letter.job_ids if job_id != letter.job_id]
    return [
        ("job", letter.job_id),
        *([("aboard too", " ".join(others))] if others else []),
        ("flight", letter.flight),
        ("lane", letter.lane),
        ("tenant", letter.tenant),
        ("code", _line(letter.code)),
        ("message", _line(letter.message)),
        ("ended", _moment(letter.ended_at)),
        ("kept until", _moment(letter.kept_until)),
        ("attempts", f"{letter.attempts} ({letter.tries} failed calls, {letter.losses} lost workers)"),
        ("request", "kept" if letter.replayable else 'not kept (store="none"): it cannot be replayed'),
        *_history(letter.history),
    ]


def _history(history: tuple[PastAttempt, ...]) -> Iterator[tuple[str, str]]:
    for number, one in enumerate(history):
        why = ": ".join(part for part in (one.code, one.message) if part)
        parts = (f"{one.attempt}. {one.outcome}", _moment(one.at), f"by {one.worker}" if one.worker else "", why)
        yield "" if number else "history", _line(", ".join(part for part in parts if part))


def _row(letter: DeadLetter) -> tuple[str, ...]:
    message = _line(letter.message)
    if len(message) > SHOWN:
        message = f"{message[:SHOWN]}..."
    why = _line(letter.code) + (f": {message}" if message else "")
    return letter.job_id, _moment(letter.ended_at), letter.lane, letter.tenant, str(letter.attempts), why


def _document(letter: DeadLetter, *, prompt: bool = False) -> dict[str, Any]:
    fields = asdict(letter)
    return fields if prompt else {name: value for name, value in fields.items() if name != "request"}


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
