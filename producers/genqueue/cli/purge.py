"""`genqueue purge`."""

from __future__ import annotations

from dataclasses import asdict

import click

from genqueue.cli.views import write_json
from genqueue.client import Client
from genqueue.errors import JobNotFound


@click.command()
@click.option("--job", "job_id", metavar="ID", help="Erase one job.")
@click.option("--tenant", metavar="NAME", help="Erase every job of a tenant, and the answers cached for it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def purge(job_id: str | None, tenant: str | None, *, yes: bool, as_json: bool) -> None:
    """Erase every trace of jobs: prompts, answers, streams, completions, cached answers.

    What still runs is called off. A flight that other jobs share stays, without the erased one.
    """
    if (job_id is None) == (tenant is None):
        raise click.UsageError("Give either --job or --tenant.")
    if not yes:
        whom = f"job {job_id}" if tenant is None else f"all of tenant {tenant}"
        click.confirm(f"Erase {whom} for good?", abort=True, err=True)
    with Client() as client:
        if job_id is not None:
            _one(client, job_id, as_json=as_json)
        elif tenant is not None:
            _all(client, tenant, as_json=as_json)


def _one(client: Client, job_id: str, *, as_json: bool) -> None:
    if not client.purge(job_id):
        raise JobNotFound(job_id)
    if as_json:
        write_json({"job_id": job_id, "purged": True})
    else:
        click.echo(f"purged {job_id}")


def _all(client: Client, tenant: str, *, as_json: bool) -> None:
    purged = client.purge_tenant(tenant)
    if as_json:
        write_json({"tenant": tenant, **asdict(purged)})
    else:
        click.echo(f"purged {purged.jobs} jobs and {purged.answers} cached answers of {tenant}")
