"""The blob store on an S3-compatible server."""

import hashlib
import json
import logging
import multiprocessing
import os

import httpx
import pytest

from genqueue.errors import BlobsUnavailable
from genqueue.payload.blobs import BlobReference, blob_store_of
from genqueue.payload.codec import codec_of
from genqueue.payload.inline import Blob
from genqueue.settings import Settings

FLIGHT = "3-" + "f" * 20
DATA = os.urandom(100_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
REFERENCE = BlobReference(DIGEST, len(DATA), "acme", DIGEST)


@pytest.fixture(scope="module")
def endpoint():
    """URL of an S3 server with the bucket `jobs`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/jobs").raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


def made(endpoint, **options):
    """Return a store on the server."""
    options = {"key": "k", "secret": "s", **options}
    settings = Settings(blob_url=f"s3://jobs/blobs?endpoint_url={endpoint}", blob_options=json.dumps(options))
    return blob_store_of(settings, codec_of(settings))


def test_blobs_are_written_read_listed_and_deleted(endpoint):
    """All that a job needs of a bucket, below a prefix."""
    store = made(endpoint)
    assert list(store.folders()) == []
    store.put("acme", FLIGHT, [Blob(DIGEST, DATA), Blob("0" * 64, b"other")])
    assert made(endpoint).fetch(FLIGHT, REFERENCE) == DATA
    (folder,) = made(endpoint).folders()
    assert (folder.tenant, folder.flight, folder.size) == ("acme", FLIGHT, len(DATA) + 5)
    assert folder.modified.tzinfo is not None
    store.delete("acme", FLIGHT)
    store.delete("acme", FLIGHT)
    assert store.fetch(FLIGHT, REFERENCE) is None
    assert list(store.folders()) == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12 on
def test_a_store_made_before_a_fork_works_in_the_child(endpoint):
    """A preforking server makes its client before it forks."""
    store = made(endpoint)
    store.put("acme", FLIGHT, [Blob(DIGEST, DATA)])
    child = multiprocessing.get_context("fork").Process(target=_read_in_child, args=(store,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    store.delete("acme", FLIGHT)


def _read_in_child(store):
    os._exit(0 if store.fetch(FLIGHT, REFERENCE) == DATA else 1)


def test_a_bucket_that_is_missing_and_a_server_that_is_away_are_told(endpoint):
    """As one error that names the setting."""
    settings = Settings(
        blob_url=f"s3://nowhere/blobs?endpoint_url={endpoint}", blob_options='{"key": "k", "secret": "s"}'
    )
    with pytest.raises(BlobsUnavailable, match="GENQUEUE_BLOB_URL"):
        blob_store_of(settings, codec_of(settings)).put("acme", FLIGHT, [Blob(DIGEST, DATA)])
    away = made("http://127.0.0.1:1", config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 1})
    with pytest.raises(BlobsUnavailable, match="GENQUEUE_BLOB_URL"):
        away.fetch(FLIGHT, REFERENCE)
