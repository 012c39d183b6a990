"""What documents look like when stored: plain, compressed, sealed."""

import base64
import json
import os
import sys
import zlib

import pytest

from genqueue.errors import MissingExtra, PayloadUnreadable, SettingsError
from genqueue.fingerprint import fingerprint
from genqueue.payload import codec as payload
from genqueue.payload import seal
from genqueue.payload.codec import COMPRESS_OVER, Codec, codec_of
from genqueue.settings import Settings

OLD = "old:" + base64.b64encode(b"o" * 16).decode()
NEW = "new:" + base64.urlsafe_b64encode(b"\xff" * 32).decode()
SMALL = b'{"text":"a whole answer"}'
LARGE = json.dumps({"text": "one of many words " * 8192}).encode()


def codec(*keys):
    """Return the codec of a deployment with these keys."""
    return codec_of(Settings(payload_keys=",".join(keys) or None))


@pytest.mark.parametrize("keys", [(), (OLD,), (NEW,)])
@pytest.mark.parametrize("document", [b"{}", SMALL, LARGE])
@pytest.mark.parametrize("kind", ["request", "result", "event"])
def test_what_was_sealed_opens(keys, document, kind):
    """A document comes back as it was, whatever its size and the keys."""
    stored = codec(*keys).seal(kind, document)
    assert codec(*keys).open(kind, stored) == document
    assert len(stored) < len(document) + 100


def test_without_keys_a_small_document_is_stored_as_it_is():
    """The hot path adds no byte and makes no copy."""
    assert codec().seal("request", SMALL) is SMALL
    assert codec().open("request", SMALL) is SMALL
    entry = {"type": "delta", "text": "word"}
    assert codec().seal_entry(entry) is entry
    assert codec().open_entry(entry) is entry


def test_a_large_document_is_compressed_and_a_dense_one_left_alone():
    """Over 64 KB zlib is used where it helps."""
    stored = codec().seal("request", LARGE)
    assert stored[:1] == b"z"
    assert len(stored) < len(LARGE) / 10
    assert codec().seal("request", b"{" + b" " * (COMPRESS_OVER - 2) + b"}")[:1] == b"{"
    dense = b"{" + os.urandom(2 * COMPRESS_OVER)
    assert codec().seal("request", dense) is dense


@pytest.mark.parametrize("kind", ["request", "result", "event", "blob"])
def test_nothing_readable_is_left_in_a_frame(kind):
    """With keys the stored bytes show neither the document nor, twice, the same bytes."""
    sealing = codec(NEW)
    frames = {sealing.seal(kind, SMALL) for _ in range(2)}
    assert len(frames) == 2
    assert not any(b"answer" in frame for frame in frames)
    assert all(frame.startswith(b"e\x03new") for frame in frames)


def test_keys_rotate():
    """The first key seals; what others sealed, and what was stored before there were keys, opens."""
    before, between, after = codec(OLD), codec(OLD, NEW), codec(NEW, OLD)
    assert between.seal("request", SMALL).startswith(b"e\x03old")
    assert after.seal("request", SMALL).startswith(b"e\x03new")
    for stored in (SMALL, zlib_of(LARGE), before.seal("request", SMALL), between.seal("request", LARGE)):
        assert after.open("request", stored) in {SMALL, LARGE}
    assert between.open("request", after.seal("request", SMALL)) == SMALL
    with pytest.raises(PayloadUnreadable, match="sealed with the key 'new', which GENQUEUE_PAYLOAD_KEYS lacks here"):
        before.open("request", after.seal("request", SMALL))


def zlib_of(document):
    """Return the compressed form."""
    stored = payload.compressed(document)
    assert stored[:1] == b"z"
    return stored


def test_a_reader_without_keys_learns_what_to_set():
    """A sealed document in a process without keys names the key and the setting."""
    with pytest.raises(PayloadUnreadable, match="key 'old'; set GENQUEUE_PAYLOAD_KEYS here"):
        codec().open("result", codec(OLD).seal("result", SMALL))


def test_frames_are_bound_to_their_kind():
    """A result does not open as a request."""
    with pytest.raises(PayloadUnreadable, match="does not open it"):
        codec(OLD).open("request", codec(OLD).seal("result", SMALL))


def test_another_key_under_the_same_id_is_told_from_a_missing_one():
    """The message says that the ids are equal and the keys are not."""
    other = "old:" + base64.b64encode(b"p" * 16).decode()
    with pytest.raises(PayloadUnreadable, match="another key under that id"):
        codec(other).open("request", codec(OLD).seal("request", SMALL))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"", "begins with b''"),
        (b"\x80pickle", "begins with"),
        (b"e", "cut short"),
        (b"e\xff", "cut short"),
        (b"e\x03old" + b"0" * 27, "cut short"),
        (b"e\x03old" + b"0" * 28, "does not open"),
        (b"e\x03\x00\x01\x02" + b"0" * 28, "no valid id"),
        (b"z", "cut short"),
        (b"zrubbish", "damaged"),
        (b"z" + zlib.compress(SMALL)[:-3], "cut short"),
    ],
)
def test_damage_is_told(stored, message):
    """Whatever is stored, opening it ends in a document or in PayloadUnreadable."""
    with pytest.raises(PayloadUnreadable, match=message):
        codec(OLD).open("request", stored)


def test_a_frame_within_a_frame_is_refused():
    """One seal is all there is: nesting cannot be used to exhaust a reader."""
    ring = seal.KeyRing(seal.parse_keys(OLD))
    twice = ring.seal(Codec(ring).seal("request", SMALL), b"genqueue:1:request")
    with pytest.raises(PayloadUnreadable, match="begins with b'e'"):
        Codec(ring).open("request", twice)


def test_a_bomb_is_refused_before_it_fills_the_memory(monkeypatch):
    """Decompression stops at the bound."""
    monkeypatch.setattr(payload, "MAX_OPENED", 100_000)
    with pytest.raises(PayloadUnreadable, match="larger than 100000 bytes"):
        codec().open("request", b"z" + zlib.compress(b"0" * 10_000_000))
    assert len(codec().open("request", b"z" + zlib.compress(b"0" * 99_999))) == 99_999


def test_entries_are_sealed_but_for_what_readers_steer_by():
    """Type and about stay readable; text, json and message go into `sealed` and come back."""
    for entry in (
        {"type": "delta", "text": "wörd \U0001f600"},
        {"type": "part", "about": "text", "json": '{"thoughtSignature":"x"}'},
        {"code": "INVALID_ARGUMENT", "message": "Invalid value at 'contents[0]'"},
    ):
        stored = codec(OLD).seal_entry(entry)
        assert not {"text", "json", "message"} & stored.keys()
        assert entry.items() >= {name: value for name, value in stored.items() if name != "sealed"}.items()
        assert codec(OLD).open_entry(stored) == entry
    started = {"type": "started", "model": "m"}
    assert codec(OLD).seal_entry(started) is started


@pytest.mark.parametrize("sealed", ["no base64!", "", base64.b64encode(b"e\x03oldxxx").decode()])
def test_a_damaged_entry_is_told(sealed):
    """A field `sealed` that cannot be opened is PayloadUnreadable."""
    with pytest.raises(PayloadUnreadable):
        codec(OLD).open_entry({"type": "delta", "sealed": sealed})


def test_fingerprints_are_keyed():
    """With keys a fingerprint cannot be had from the question alone, and it changes with the first key."""
    plain, old, new, both = (
        fingerprint(SMALL, scope="tenant:a", key=one.fingerprint_keys[0])
        for one in (codec(), codec(OLD), codec(NEW), codec(OLD, NEW))
    )
    assert plain == fingerprint(SMALL, scope="tenant:a")
    assert old == both
    assert len({plain, old, new}) == 3


@pytest.mark.parametrize(
    "keys",
    ["secretsecret", "old:", "old:c2VjcmV0", "o l d:" + OLD[4:], f"{OLD},{OLD}", f"{OLD},", ":" + OLD[4:], "a:é"],
)
def test_wrong_keys_are_a_settings_error_that_shows_none(keys):
    """The message names the variable and what is expected, and repeats no piece of the value."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_PAYLOAD_KEYS: got \*\*\*") as caught:
        Settings.load(payload_keys=keys)
    assert OLD[4:] not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    assert "secretsecret" not in str(caught.value)


def test_keys_never_show():
    """Neither settings nor keys print a key."""
    settings = Settings(payload_keys=OLD)
    for shown in (repr(settings), str(settings), repr(seal.parse_keys(OLD))):
        assert OLD[4:] not in shown
        assert "oooo" not in shown


def test_without_cryptography_the_extra_is_named(monkeypatch):
    """Keys without the package ask for the extra; without keys it is not imported at all."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    codec()
    with pytest.raises(MissingExtra, match=r"genqueue\[crypto\]"):
        codec(OLD)
