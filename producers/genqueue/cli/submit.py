"""`genqueue submit`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from genqueue.cli.follow import follow
from genqueue.cli.views import choose_view, write_json
from genqueue.client import Client

#: Model asked when none is named.
MODEL = "gemini-3-flash-preview"

_CACHE = click.Choice(["use", "refresh", "off"])
_SHARE = click.Choice(["tenant", "global", "none"])


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
@click.option("--tail", "tailing", is_flag=True, help="Follow the answer; without it the job's id is printed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the id, or with --tail one event a line.")
def submit(*, text: str | None, tailing: bool, as_json: bool, **given: Any) -> None:
    """Queue a request and print its job's id, or with --tail its answer as it is written.

    TEXT is the prompt; "-", or nothing with a pipe, reads it from stdin.
    """
    prompt = read_stdin(explicit=text == "-") if text in {None, "-"} else text
    options = {name: value for name, value in given.items() if value is not None}
    with Client() as client:
        began = time.monotonic()
        job = client.submit(prompt, **options)
        if tailing:
            follow(job, choose_view(job, as_json=as_json, began=began))
        elif as_json:
            write_json({"job_id": job.id})
        else:
            click.echo(job.id)


def read_stdin(*, explicit: bool) -> str:
    """Return what stdin holds, without the line ends at its end.

    Args:
        explicit: whether it was asked for, so that a person may type it too.

    Raises:
        click.UsageError: there is nothing to read, or it is no text.
    """
    if sys.stdin is None or (sys.stdin.isatty() and not explicit):
        raise click.UsageError('TEXT is missing; "-" reads it from stdin.')
    raw = sys.stdin.buffer.read()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        reason = f"byte 0x{raw[error.start]:02x} at position {error.start}"
        raise click.UsageError(f"stdin is not UTF-8 text ({reason}).") from error
    text = text.rstrip("\r\n")
    if not text:
        raise click.UsageError("stdin is empty: give TEXT, or pipe it in.")
    return text
