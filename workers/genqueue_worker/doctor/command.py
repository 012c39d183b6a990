"""`genqueue doctor`."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from genqueue.errors import SettingsError
from genqueue_worker.doctor.completions import check_completions
from genqueue_worker.doctor.endpoint import check_endpoint
from genqueue_worker.doctor.finding import Finding, without_secrets
from genqueue_worker.doctor.fleet import check_fleet
from genqueue_worker.doctor.server import check_server
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

#: Seconds a group of checks may take together.
PATIENCE: Final = 4.0

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, /, *, as_json: bool) -> None:
    """Check settings, data server, broker, workers, endpoint and key.

    Says of each what was found and what to do about it. The exit status is 1 when a check failed. Nothing is written
    anywhere, and nothing is paid for.
    """
    logging.disable(logging.WARNING)  # the report says it, and what to do
    try:
        findings = examine()
    finally:
        logging.disable(logging.NOTSET)
    healthy = all(finding.level != "fail" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": healthy, "checks": [asdict(finding) for finding in findings]}, ensure_ascii=False))
    else:
        show(findings)
    ctx.exit(0 if healthy else 1)


def examine() -> list[Finding]:
    """Return all findings, without secrets; only those about the settings when these are wrong."""
    try:
        settings = WorkerSettings.load()
    except SettingsError as error:
        advice = "correct it; the other checks wait for that"
        problems = [Finding("settings", "fail", problem, advice) for problem in error.problems]
        return [without_secrets(finding, None) for finding in problems]
    findings = [Finding("settings", "ok", summary(settings)), *asyncio.run(_examine(settings))]
    return [without_secrets(finding, settings) for finding in findings]


def summary(settings: WorkerSettings) -> str:
    """Return the settings that tell deployments apart."""
    return f"prefix {settings.key_prefix}, lanes {settings.lanes}, {settings.slots} slots"


async def _examine(settings: WorkerSettings) -> list[Finding]:
    groups = await asyncio.gather(
        _bounded("data server", check_server(settings)),
        _bounded("broker", check_fleet(settings)),
        _bounded("completions", check_completions(settings)),
        _bounded("endpoint", check_endpoint(settings)),
    )
    return [finding for group in groups for finding in group]


async def _bounded(check: str, group: Awaitable[Sequence[Finding]]) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await group
    except TimeoutError:
        return [Finding(check, "fail", f"no end of it within {PATIENCE:g} s", "check the network and name servers")]


def show(findings: Sequence[Finding]) -> None:
    """Print findings as a table: level, check, what was found; advice under it."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        level = click.style(f"{finding.level:<4}", fg=_COLOURS[finding.level], bold=finding.level != "ok")
        click.echo(f"{level}  {finding.check:<{width}}  {finding.found}")
        if finding.advice:
            click.echo(f"{'':<{width + 8}}-> {finding.advice}")
