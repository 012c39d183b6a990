"""The blob store, on file systems that need no server."""

import base64
import hashlib
import sys
from types import SimpleNamespace

import pytest

from genqueue.errors import BlobsUnavailable, MissingExtra, PayloadUnreadable, ServerUnavailable, SettingsError
from genqueue.payload.blobs import BlobReference, blob_store_of
from genqueue.payload.codec import codec_of
from genqueue.payload.inline import Blob
from genqueue.settings import Settings

KEYS = "k1:" + base64.b64encode(b"k" * 32).decode()
FLIGHT, OTHER = "3-" + "f" * 20, "3-" + "e" * 20
DATA = b"e\x02k1 looks like a frame" * 50


def store_at(url, keys=None, **settings):
    """Return the store of a deployment."""
    made = Settings(blob_url=url, payload_keys=keys, **settings)
    return blob_store_of(made, codec_of(made))


def reference(data, tenant="acme", name=None):
    """Return what a document says of some data."""
    digest = hashlib.sha256(data).hexdigest()
    return BlobReference(digest, len(data), tenant, digest if name is None else name)


def blob(data):
    """Return a blob named by its digest."""
    return Blob(hashlib.sha256(data).hexdigest(), data)


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    """URL of an empty store."""
    return f"file://{tmp_path}/blobs" if request.param == "file" else f"memory://{tmp_path.name}{id(tmp_path)}"


@pytest.mark.parametrize("keys", [None, KEYS])
def test_what_was_put_is_fetched(url, keys):
    """By another process's store too; and one flight's blobs are nobody else's."""
    store_at(url, keys).put("acme", FLIGHT, [blob(DATA), blob(b"")])
    assert store_at(url, keys).fetch(FLIGHT, reference(DATA)) == DATA
    assert store_at(url, keys).fetch(FLIGHT, reference(b"")) == b""
    assert store_at(url, keys).fetch(OTHER, reference(DATA)) is None
    assert store_at(url, keys).fetch(FLIGHT, reference(DATA, tenant="other")) is None


def test_sealed_blobs_show_nothing_and_plain_ones_from_before_are_read(tmp_path):
    """A file from before there were keys is read even if it begins like a frame."""
    url = f"file://{tmp_path}"
    store_at(url).put("acme", FLIGHT, [blob(DATA)])
    store_at(url, KEYS).put("acme", OTHER, [blob(DATA)])
    assert b"looks like" not in (tmp_path / "acme" / OTHER / blob(DATA).name).read_bytes()
    assert store_at(url, KEYS).fetch(FLIGHT, reference(DATA)) == DATA
    with pytest.raises(PayloadUnreadable, match="set GENQUEUE_PAYLOAD_KEYS"):
        store_at(url).fetch(OTHER, reference(DATA))


@pytest.mark.parametrize("change", [b"x" + DATA[1:], DATA + b"more", DATA[:-1], b""])
def test_what_was_not_written_is_not_read(tmp_path, change):
    """Digest and size are those of the document."""
    store = store_at(f"file://{tmp_path}")
    store.put("acme", FLIGHT, [blob(DATA)])
    (tmp_path / "acme" / FLIGHT / blob(DATA).name).write_bytes(change)
    with pytest.raises(PayloadUnreadable):
        store.fetch(FLIGHT, reference(DATA))


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "", "a/b", "0" * 64 + "\n"])
def test_a_name_leads_nowhere_else(tmp_path, name):
    """A document cannot make a worker read another file."""
    store = store_at(f"file://{tmp_path}")
    for astray in (reference(DATA, name=name), reference(DATA, tenant=name)):
        with pytest.raises(PayloadUnreadable, match="no blob's place"):
            store.fetch(FLIGHT, astray)


def test_a_flights_blobs_are_deleted_together(url):
    """Deleting is repeated without harm, and leaves others alone."""
    store = store_at(url)
    store.put("acme", FLIGHT, [blob(DATA), blob(b"two")])
    store.put("acme", OTHER, [blob(DATA)])
    store.delete("acme", FLIGHT)
    store.delete("acme", FLIGHT)
    assert store.fetch(FLIGHT, reference(DATA)) is None
    assert store.fetch(OTHER, reference(DATA)) == DATA


def test_folders_are_listed_with_their_age(url):
    """One for each flight; an empty store has none, and strangers' files are no flights."""
    store = store_at(url)
    assert list(store.folders()) == []
    store.put("acme", FLIGHT, [blob(DATA), blob(b"two")])
    store.put("t2", OTHER, [blob(DATA)])
    store.put("not", "deep/enough", [])
    found = sorted(store.folders(), key=lambda folder: folder.tenant)
    assert [(f.tenant, f.flight, f.size) for f in found] == [
        ("acme", FLIGHT, len(DATA) + 3),
        ("t2", OTHER, len(DATA)),
    ]
    assert all(f.modified.tzinfo is not None for f in found)


def test_a_store_that_fails_is_unavailable_in_plain_words(tmp_path):
    """Whatever a file system raises becomes one error, without credentials."""
    (tmp_path / "file").write_text("in the way")
    store = store_at(f"file://{tmp_path}/file?secret=hush")
    with pytest.raises(BlobsUnavailable, match="GENQUEUE_BLOB_URL") as caught:
        store.put("acme", FLIGHT, [blob(DATA)])
    assert isinstance(caught.value, ServerUnavailable)
    assert "hush" not in str(caught.value)
    assert not caught.value.sent


def test_a_missing_package_names_its_extra(monkeypatch):
    """Fsspec, and what it needs for S3."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"genqueue\[blobs\]"):
        store_at("file:///x").delete("acme", FLIGHT)
    monkeypatch.setitem(sys.modules, "fsspec.core", SimpleNamespace(url_to_fs=missing))
    with pytest.raises(MissingExtra, match=r"genqueue\[s3\]"):
        store_at("s3://bucket").delete("acme", FLIGHT)
    with pytest.raises(SettingsError, match="GENQUEUE_BLOB_URL: gs:// needs a package: install gcsfs"):
        store_at("gs://bucket").delete("acme", FLIGHT)


def missing(*_args, **_options):
    """Fail as fsspec does."""
    raise ImportError("install gcsfs")


def test_an_unknown_scheme_is_a_wrong_setting():
    """The message names the variable."""
    with pytest.raises(SettingsError, match="GENQUEUE_BLOB_URL"):
        store_at("nonsense://bucket").delete("acme", FLIGHT)


def test_options_come_from_the_url_and_from_json(monkeypatch):
    """A query gives single ones, JSON any; JSON wins."""
    given = {}

    def opened(url, **options):
        given.update(options, url=url)
        return SimpleNamespace(invalidate_cache=lambda: None, rm=lambda *_args, **_options: None), "/root"

    monkeypatch.setattr("fsspec.core.url_to_fs", opened)
    store = store_at("s3://b/p/?endpoint_url=http://x&anon=true&key=1", blob_options='{"key": "2", "kw": {"a": 1}}')
    store.delete("acme", FLIGHT)
    assert given.pop("skip_instance_cache")
    assert given == {"url": "s3://b/p", "endpoint_url": "http://x", "anon": True, "key": "2", "kw": {"a": 1}}


@pytest.mark.parametrize("options", ["no json", "[1]"])
def test_wrong_options_do_not_show(options):
    """They may hold a password."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_BLOB_OPTIONS: got \*\*\*, expected a JSON object"):
        Settings.load(blob_options=options)


def test_without_a_url_there_is_no_store():
    """Nothing is imported either."""
    assert store_at(None) is None
