"""`genqueue dead` on a real server."""

import json

import pytest
from click.testing import CliRunner

from genqueue import Client
from genqueue.cli import main
from genqueue.keys import Keys

from .client_sides import HandWorker

MODEL = "gemini-2.5-flash"


@pytest.fixture
def run(database_url, prefix):
    """Run the command; returns how it ended."""
    environment = {"GENQUEUE_DATA_URL": database_url, "GENQUEUE_KEY_PREFIX": prefix}
    return lambda *arguments: CliRunner().invoke(main, ["dead", *arguments], env=environment)


@pytest.fixture
def bury(database_url, prefix):
    """Return a function that submits a job and lets it die."""
    worker = HandWorker(database_url, Keys(prefix))
    with Client(data_url=database_url, key_prefix=prefix) as client:

        def burying(prompt, **options):
            job = client.submit(prompt, model=MODEL, **options)
            message = "The model is \x1b[31moverloaded\x1b[0m.\nTry " + "again " * 20
            worker.take(job).fail(code="UNAVAILABLE", message=message, retryable="1")
            return job

        yield burying
    worker.redis.close()


def test_dead_jobs_are_listed(run, bury):
    """A line each, the newest first, with nothing a terminal would act on; as JSON with all but the request."""
    assert (run("list").stdout, run("list").stderr) == ("", "no dead letters\n")
    old, new = bury("one", lane="low"), bury("two", tenant="acme")
    heading, *lines = run("list").stdout.splitlines()
    assert heading.split() == ["JOB", "ENDED", "LANE", "TENANT", "ATTEMPTS", "WHY"]
    assert [line.split()[0] for line in lines] == [new.id, old.id]
    assert lines[1].split()[2:6] == ["low", "default", "1", "UNAVAILABLE:"]
    assert all(line.endswith("...") and line.isprintable() for line in lines)
    listed = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [letter["job_id"] for letter in listed] == [new.id, old.id]
    assert "request" not in listed[0]
    assert [json.loads(run("list", "--json", *only).stdout)["job_id"] for only in (["--tenant", "acme"],)] == [new.id]
    assert len(run("list", "--limit", "1").stdout.splitlines()) == 2


def test_a_dead_job_is_shown_with_its_history(run, bury):
    """And with its prompt only when that is asked for."""
    job = bury("a secret")
    shown = run("show", job.id).stdout
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert (rows["job"], rows["code"], rows["request"]) == (job.id, "UNAVAILABLE", "kept")
    assert rows["history"].startswith("1. failed, 20")
    assert rows["history"].count("UNAVAILABLE: The model") == 1
    assert "a secret" not in shown + run("show", job.id, "--json").stdout
    assert "a secret" in run("show", job.id, "--prompt").stdout
    document = json.loads(run("show", job.id, "--prompt", "--json").stdout)
    assert document["request"]["model"] == MODEL
    assert document["history"][0]["outcome"] == "failed"


def test_a_dead_job_is_replayed_and_dropped(run, bury, database_url, prefix):
    """The new job's id is printed; once dropped there is no more of it, which is told."""
    job = bury("What?", store="request")
    again = run("replay", job.id, "--lane", "high", "--deadline", "60").stdout.strip()
    placed = json.loads(run("replay", job.id, "--json", "--idempotency-key", "k").stdout)
    assert set(placed) == {"job_id", "stream_key", "leave_mark"}
    assert run("replay", job.id, "--idempotency-key", "k").stdout.strip() == placed["job_id"]
    with Client(data_url=database_url, key_prefix=prefix) as client:
        status = client.job(again).status()
    assert (status.replayed_from, status.lane) == (job.id, "high")
    environment = {"GENQUEUE_DATA_URL": database_url, "GENQUEUE_KEY_PREFIX": prefix}
    assert f"replays   {job.id}" in CliRunner().invoke(main, ["status", again], env=environment).stdout
    assert run("drop", job.id).stdout == f"dropped {job.id}\n"
    assert json.loads(run("drop", job.id, "--json").stdout) == {"job_id": job.id, "dropped": False}
    refused = run("replay", job.id)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "somebody dropped it" in refused.stderr
    for command in ("show", "replay", "drop"):
        unknown = run(command, Keys(prefix).new_id())
        assert (unknown.exit_code, unknown.stderr[:14]) == (1, "error: no job ")
