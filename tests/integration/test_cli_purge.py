"""`genqueue purge` on a real server."""

import json

import pytest
from click.testing import CliRunner

from genqueue import Client
from genqueue.cli import main

MODEL = "gemini-2.5-flash"


@pytest.fixture
def client(database_url, prefix):
    """Return a client of the deployment that the command uses."""
    with Client(data_url=database_url, key_prefix=prefix) as made:
        yield made


@pytest.fixture
def run(database_url, prefix):
    """Run the command."""
    environment = {"GENQUEUE_DATA_URL": database_url, "GENQUEUE_KEY_PREFIX": prefix}
    return lambda *options, answer=None: CliRunner().invoke(main, ["purge", *options], input=answer, env=environment)


def test_a_job_is_purged_once_confirmed(client, run) -> None:
    """Whoever says no, or nothing, purges nothing; an unknown job is an error."""
    job = client.submit("x", model=MODEL)
    assert run("--job", job.id, answer="n\n").exit_code != 0
    assert job.status().state == "queued"
    assert run("--job", job.id, answer="y\n").output.endswith(f"purged {job.id}\n")
    gone = run("--job", job.id, "--yes")
    assert gone.exit_code != 0
    assert "JobNotFound" in repr(gone.exception) or "no job" in gone.output


def test_a_tenant_is_purged(client, run) -> None:
    """All its jobs, counted."""
    for number in range(3):
        client.submit(f"question {number}", model=MODEL, tenant="acme")
    purged = json.loads(run("--tenant", "acme", "--yes", "--json").output)
    assert purged == {"tenant": "acme", "jobs": 3, "answers": 0}
    assert run("--tenant", "acme", "--yes").output == "purged 0 jobs and 0 cached answers of acme\n"


@pytest.mark.parametrize("options", [(), ("--job", "3-0123456789abcdef0123", "--tenant", "acme")])
def test_one_thing_is_purged(run, options) -> None:
    """A job or a tenant, not neither and not both."""
    result = run(*options, "--yes")
    assert (result.exit_code, "either --job or --tenant" in result.output) == (2, True)
