"""`genqueue bench`: benchmarks that end with a verdict."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from genqueue_lab.bench import tails as tails_bench
from genqueue_lab.bench.sizes import sizes
from genqueue_lab.bench.verdict import STATUS


@click.group()
def bench() -> None:
    """Measure on this machine whether a promise holds.

    Each benchmark exits with 0 when it holds, 1 when it does not, and 2 when this machine was too unsteady to tell.
    With --control it runs without the mechanism that the promise rests on, and has to fail.
    """


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: under a minute.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--control", is_flag=True, help="Read as one would first think of: one blocking XREAD over all streams.")
@click.pass_context
def tails(ctx: click.Context, *, quick: bool, as_json: bool, control: bool) -> None:
    """Measure what a tail adds to a round trip to the server, at 10 and at 1,000 live tails in one process."""
    report = tails_bench.measure(rounds=6 if quick else 20, control=control)
    click.echo(json.dumps(asdict(report)) if as_json else report.text())
    ctx.exit(STATUS[report.verdict])


bench.add_command(sizes)
