"""`genqueue blobs`."""

from __future__ import annotations

import re
import time
from typing import Final

import click

from genqueue.cli.views import write_json
from genqueue.connections import BlockingConnection
from genqueue.errors import SettingsError
from genqueue.payload.orphans import clean as cleaning
from genqueue.settings import Settings

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(context: click.Context, option: click.Parameter, text: str) -> float:
    """Return the seconds of an age."""
    del context, option
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if found is None:
        raise click.BadParameter(f"{text!r}: expected seconds, or a number with m, h or d, such as 90m")
    return float(found[1]) * _UNITS[found[2]]


@click.group()
def blobs() -> None:
    """Look after the inline data kept at GENQUEUE_BLOB_URL."""


@blobs.command()
@click.option("--older-than", callback=_seconds, default="1h", show_default=True, help="Leave what is younger.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def clean(older_than: float, *, dry_run: bool, as_json: bool) -> None:
    """Delete blobs whose job needs them no more.

    Workers and submitters delete theirs; what is left is of processes that died, and of jobs that were cancelled or
    expired before a worker had them. Run it daily, with the settings of the deployment whose store it is.
    """
    connection = BlockingConnection(Settings.load())
    try:
        if connection.blobs is None:
            raise SettingsError(["GENQUEUE_BLOB_URL: not set, expected the store to clean"])
        before = time.time() - older_than
        found = connection.run(cleaning(connection.blobs, connection.keys, before, delete=not dry_run))
    finally:
        connection.close()
    size = sum(one.size for one in found.orphans)
    if as_json:
        deleted = [f"{one.tenant}/{one.flight}" for one in found.orphans]
        write_json({"deleted": deleted, "bytes": size, "kept": found.kept, "dry_run": dry_run})
        return
    done = "would delete" if dry_run else "deleted"
    click.echo(f"{done} the blobs of {len(found.orphans)} jobs, {size} bytes; kept those of {found.kept}")
