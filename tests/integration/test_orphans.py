"""`genqueue blobs clean`: what it deletes, and what it leaves."""

import base64
import json
import os
import time

import pytest
from click.testing import CliRunner

from genqueue import Client
from genqueue.arrivals import BATCH_BYTES
from genqueue.cli import main
from genqueue.errors import BlobsUnavailable
from genqueue.payload.blobs import BlobStore


@pytest.fixture
def environment(database_url, prefix, tmp_path, monkeypatch):
    """Set the variables of a deployment with a store of files, and return the store's directory."""
    monkeypatch.setenv("GENQUEUE_DATA_URL", database_url)
    monkeypatch.setenv("GENQUEUE_KEY_PREFIX", prefix)
    monkeypatch.setenv("GENQUEUE_BLOB_URL", f"file://{tmp_path}/blobs")
    monkeypatch.setenv("GENQUEUE_BLOB_THRESHOLD", "10")
    return tmp_path / "blobs"


def request(data=b"a picture", **options):
    """Return the arguments of a submit with inline data."""
    part = {"inline_data": {"mime_type": "image/png", "data": base64.b64encode(data).decode()}}
    return {"contents": [part, "What is it?"], "model": "m", **options}


def flights(directory):
    """Return the flights that have blobs."""
    return {path.parent.name for path in directory.rglob("*") if path.is_file()}


def clean(*arguments):
    """Run the command and return its JSON."""
    done = CliRunner().invoke(main, ["blobs", "clean", "--json", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_only_what_is_old_and_needed_by_nobody_is_deleted(environment):
    """Waiting jobs keep theirs, cancelled ones do not; files of others are left alone."""
    with Client() as client:
        waiting, cancelled = client.submit(**request(b"picture one")), client.submit(**request(b"picture two"))
        cancelled.cancel()
    (environment / "acme" / "not-a-flight").mkdir(parents=True)
    (environment / "acme" / "not-a-flight" / "file").write_text("theirs")
    before = flights(environment)
    assert len(before) == 3
    assert clean()["deleted"] == []
    looked = clean("--older-than", "0", "--dry-run")
    assert (len(looked["deleted"]), looked["kept"], looked["dry_run"]) == (1, 2, True)
    assert flights(environment) == before
    assert clean("--older-than", "0s")["deleted"] == looked["deleted"]
    left = flights(environment)
    assert before - left == {looked["deleted"][0].partition("/")[2]}
    assert waiting.stream_key.rpartition(":")[2] in left


def test_age_is_that_of_the_newest_blob(environment):
    """Hours and days can be said as such."""
    with Client() as client:
        client.submit(**request()).cancel()
    (blob,) = (path for path in environment.rglob("*") if path.is_file())
    os.utime(blob, (time.time() - 7300, time.time() - 7300))
    assert clean("--older-than", "1d")["deleted"] == []
    assert clean("--older-than", "2.5h")["deleted"] == []
    assert len(clean("--older-than", "2h")["deleted"]) == 1


@pytest.mark.parametrize("age", ["soon", "-1", "1w"])
def test_an_age_that_is_none_is_refused(environment, age):
    """With what is expected."""
    done = CliRunner().invoke(main, ["blobs", "clean", f"--older-than={age}"])
    assert done.exit_code == 2
    assert "expected seconds" in done.output


def test_without_a_store_the_setting_is_named(environment, monkeypatch):
    """There is nothing to clean."""
    monkeypatch.delenv("GENQUEUE_BLOB_URL")
    done = CliRunner().invoke(main, ["blobs", "clean"])
    assert done.exit_code == 2
    assert "GENQUEUE_BLOB_URL" in done.output


def test_a_server_without_the_deployment_is_not_believed(environment, monkeypatch):
    """By what it says nobody would need any blob: a wrong prefix must not cost every waiting job its data."""
    with Client() as client:
        client.submit(**request())
    monkeypatch.setenv("GENQUEUE_KEY_PREFIX", "another")
    refused = CliRunner().invoke(main, ["blobs", "clean", "--older-than", "0"])
    assert refused.exit_code == 2
    assert "no deployment there (another:meta)" in refused.output
    assert len(flights(environment)) == 1


def test_blobs_that_are_not_needed_are_taken_back_at_submit(environment):
    """One who joins, repeats a submit, or comes too late leaves nothing behind."""
    with Client() as client:
        first = client.submit(**request(tenant="acme"))
        joined = client.submit(**request(tenant="acme"))
        again = client.submit(**request(tenant="acme", job_id=first.id))
        assert again.id == first.id
        assert joined.stream_key == first.stream_key
        assert flights(environment) == {first.stream_key.rpartition(":")[2]}
        keyed = [client.submit(**request(b"keyed one", idempotency_key="k")) for _ in range(2)]
        assert keyed[0].id == keyed[1].id
        assert len(flights(environment)) == 2
        many = client.submit_many([request(bytes([n]) * (BATCH_BYTES // 2)) for n in range(3)] + [request(b"\0" * 99)])
        assert len({job.id for job in many}) == 4
        assert len(flights(environment)) == 6


def test_a_store_that_fails_queues_nothing(environment, monkeypatch):
    """The submit says so, and others of a batch go through; the store, which may be slow to fail, is asked once."""

    def fail():
        raise BlobsUnavailable("s3://b", "no route")

    environment.parent.mkdir(exist_ok=True)
    environment.write_text("in the way")
    with Client() as client:
        with pytest.raises(BlobsUnavailable, match="GENQUEUE_BLOB_URL"):
            client.submit(**request())
        failed, accepted = client.submit_many([request(), {"contents": "text", "model": "m"}])
        assert isinstance(failed, BlobsUnavailable)
        asked = []
        monkeypatch.setattr(BlobStore, "put", lambda *what: asked.append(what) or fail())
        assert {type(one) for one in client.submit_many([request(bytes([n]) * 99) for n in range(3)])} == {
            BlobsUnavailable
        }
        assert len(asked) == 1
        assert accepted.status().state == "queued"
