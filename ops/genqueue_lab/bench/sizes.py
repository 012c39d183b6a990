"""`genqueue bench sizes`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from genqueue_lab.sizing import measure, table

#: Jobs that wait, and jobs with an answer; and as many in a quick look.
JOBS = (10_000, 1_000)
QUICK = (500, 50)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer jobs: within a few percent, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each measurement.")
def sizes(*, quick: bool, as_json: bool) -> None:
    """Measure how much of the data server's memory a job takes."""
    found = []
    for size in measure(*(QUICK if quick else JOBS)):
        found.append(size)
        if as_json:
            print(json.dumps(asdict(size)), flush=True)
        else:
            print(f"{size.state}, {size.prompt}, {size.nodes}: {size.used:,.0f} bytes a job", file=sys.stderr)
    if not as_json:
        print("\n".join(table(found)))
