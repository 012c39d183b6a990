"""`genqueue submit`."""

from __future__ import annotations

import errno
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genqueue.cli.batch import read_items, show_outcomes, submit_in_turns
from genqueue.cli.follow import follow
from genqueue.cli.views import choose_view, write_json
from genqueue.client import Client
from genqueue.errors import GenqueueError

if TYPE_CHECKING:
    from genqueue.client import Job

#: Model asked when none is named.
MODEL = "gemini-3-flash-preview"

_CACHE = click.Choice(["use", "refresh", "off"])
_SHARE = click.Choice(["tenant", "global", "none"])
_STORE = click.Choice(["request", "none"])
_ON_INTERRUPT = click.Choice(["restart", "continue", "fail"])


def config_object(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Return the object of `--config`; anything else is a usage error."""
    if value is None:
        return None
    try:
        fields = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise click.BadParameter('expected a JSON object such as {"top_p": 0.9}')
    return fields


@click.command()
@click.argument("text", required=False)
@click.option("--file", "source", metavar="JOBS.JSONL", help="Submit many: an object of arguments a line; - is stdin.")
@click.option("--model", default=MODEL, show_default=True, help="The provider's model name.")
@click.option("--lane", metavar="[high|normal|low]", help="Priority; 1, 2 and 3 mean the same.  [default: normal]")
@click.option("--tenant", help="On whose behalf; answers are shared within one tenant.")
@click.option("--deadline", type=float, metavar="SECONDS", help="After which the answer is of no use; by lane.")
@click.option("--system", "system_instruction", metavar="TEXT", help="System instruction.")
@click.option("--temperature", type=float, help="From 0 to 2.")
@click.option("--max-output-tokens", type=int, help="Longest answer.")
@click.option(
    "--config", callback=config_object, metavar="JSON", help='More of the generation config, e.g. {"top_p": 0.9}.'
)
@click.option("--cache", type=_CACHE, help="Use a cached answer, renew it, or neither.")
@click.option("--share", type=_SHARE, help="Who shares the answer to an equal question.")
@click.option("--residency", multiple=True, metavar="REGION", help="Where it may run; may be given several times.")
@click.option("--idempotency-key", metavar="KEY", help="Under the same key comes the same job, for a day.")
@click.option("--job-id", metavar="ID", help="The job's id: that of a submit that ended uncertain.")
@click.option("--on-done", metavar="URL", help="Where the end of the job is told.")
@click.option("--on-interrupt", type=_ON_INTERRUPT, help="When an attempt ends early: begin anew, go on, or give up.")
@click.option("--store", type=_STORE, help='"none" keeps the prompt of no job that has ended.')
@click.option("--tail", "tailing", is_flag=True, help="Follow the answer; without it the job's id is printed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: where the job is, or with --tail one event a line.")
def submit(*, text: str | None, source: str | None, tailing: bool, as_json: bool, **given: Any) -> None:
    """Queue a request and print its job's id, or with --tail its answer as it is written.

    TEXT is the prompt; "-", or nothing with a pipe, reads it from stdin. With --file the other options are the
    defaults of every line, and a line is printed for each as it is queued: the job's id, or what went wrong.
    """
    options = {name: value for name, value in given.items() if value is not None and value != ()}
    if source is not None:
        submit_file(source, options, alone=text is None and not tailing, as_json=as_json)
        return
    prompt = read_stdin(explicit=text == "-") if text in {None, "-"} else text
    with Client() as client:
        began = time.monotonic()
        present(client.submit(prompt, **options), as_json=as_json, tailing=tailing, began=began)


def present(job: Job, *, as_json: bool, tailing: bool, began: float) -> None:
    """Print a job that was accepted just now, or follow it; `began` is when it was asked for, by the monotonic clock.

    Whatever becomes of stdout, its id is not lost.
    """
    try:
        show(job, as_json=as_json, tailing=tailing, began=began)
    except OSError as error:
        if isinstance(error, GenqueueError):  # WaitTimeout is one
            raise
        click.echo(f"job {job.id} was accepted; follow it with: genqueue tail {job.id}", err=True)
        raise


def show(job: Job, *, as_json: bool, tailing: bool, began: float) -> None:
    """Print an accepted job, or follow it."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "stdout is closed")
    if tailing:
        follow(job, choose_view(job, as_json=as_json, began=began))
    elif as_json:
        write_json({"job_id": job.id, "stream_key": job.stream_key, "leave_mark": job.leave_mark})
    else:
        click.echo(job.id)


def submit_file(source: str, defaults: dict[str, Any], *, alone: bool, as_json: bool) -> None:
    """Queue the requests of a file, or of stdin, and print one line for each; ends with status 1 if any failed."""
    if not alone:
        raise click.UsageError("--file goes with neither TEXT nor --tail.")
    if source == "-":
        raw, name = stdin_bytes(), "stdin"
    else:
        try:
            raw, name = Path(source).read_bytes(), source
        except OSError as error:
            raise click.BadParameter(f"{source}: {error.strerror}", param_hint="--file") from error
    items = read_items(raw, name)
    with Client() as client:
        queued = show_outcomes(submit_in_turns(client, items, defaults), as_json=as_json)
    if not queued:
        raise click.ClickException(f"not every request of {name} was queued")


def stdin_bytes() -> bytes:
    """Return all of stdin."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def read_stdin(*, explicit: bool) -> str:
    """Return what stdin holds, without the line ends at its end.

    Args:
        explicit: whether it was asked for, so that a person may type it too.

    Raises:
        click.UsageError: there is nothing to read, or it is no text.
    """
    if sys.stdin is None or (sys.stdin.isatty() and not explicit):
        raise click.UsageError('TEXT is missing; "-" reads it from stdin.')
    raw = stdin_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        reason = f"byte 0x{raw[error.start]:02x} at position {error.start}"
        raise click.UsageError(f"stdin is not UTF-8 text ({reason}).") from error
    text = text.rstrip("\r\n")
    if not text:
        raise click.UsageError("stdin is empty: give TEXT, or pipe it in.")
    return text
