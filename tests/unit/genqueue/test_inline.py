"""Inline data: what identifies it, and what of it goes to the blob store."""

import base64
import hashlib
import json

import pytest

from genqueue.errors import InvalidRequest
from genqueue.payload.codec import codec_of
from genqueue.payload.inline import detach
from genqueue.request.document import MAX_REQUEST_BYTES, build_request
from genqueue.settings import Settings

KEYS = "k1:" + base64.b64encode(b"k" * 32).decode()
LARGE, SMALL = b"\x00\x01picture" * 100, b"\xfficon"


def part(data):
    """Return a part with inline data."""
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}}


def document(*parts):
    """Return a canonical request."""
    return build_request([{"role": "user", "parts": [*parts, {"text": "What is it?"}]}], model="m").encode()


def detached(request, **settings):
    """Return the stored form of a request."""
    made = Settings(**{"blob_url": "memory://b", "blob_threshold": 100, **settings})
    return detach(request, "acme", made, codec_of(made))


def parts_of(encoded):
    """Return the first turn's parts."""
    return json.loads(encoded)["contents"][0]["parts"]


def test_a_request_without_inline_data_is_let_through():
    """Nothing is parsed or copied, also when its text speaks of inline data."""
    request = document({"text": 'say "inlineData": {"data": "x"}'})
    stored = detached(request)
    assert stored.document is request
    assert stored.identity is request
    assert stored.blobs == ()


def test_the_largest_goes_to_the_store_until_the_rest_is_below_the_threshold():
    """The document says digest and size; what is small stays in it."""
    stored = detached(document(part(SMALL), part(LARGE), part(LARGE)))
    digest = hashlib.sha256(LARGE).hexdigest()
    assert [(blob.name, blob.data) for blob in stored.blobs] == [(digest, LARGE)]
    small, large, again, _ = parts_of(stored.document)
    assert small == part(SMALL)
    assert large == again
    assert large["inlineData"] == {
        "mimeType": "image/png",
        "blob": {"sha256": digest, "size": len(LARGE), "tenant": "acme", "name": digest},
    }
    assert parts_of(stored.identity)[1]["inlineData"]["blob"] == {"sha256": digest, "size": len(LARGE)}


def test_identity_does_not_depend_on_where_the_data_is():
    """Without a store, with one, with any threshold and with keys the same request is the same question."""
    request = document(part(SMALL), part(LARGE))
    kinds = [
        {},
        {"blob_url": None},
        {"blob_threshold": 1},
        {"blob_threshold": 1_000_000},
        {"payload_keys": KEYS},
    ]
    assert len({detached(request, **settings).identity for settings in kinds}) == 1
    assert detached(document(part(LARGE), part(SMALL))).identity != detached(request).identity
    other = document({"inlineData": {**part(LARGE)["inlineData"], "mimeType": "image/gif"}}, part(SMALL))
    assert detached(other).identity != detached(document(part(LARGE), part(SMALL))).identity


def test_the_names_of_sealed_blobs_tell_nothing():
    """With keys a blob is not named by its digest, which whoever has the file knows too."""
    stored = detached(document(part(LARGE)), payload_keys=KEYS)
    digest = hashlib.sha256(LARGE).hexdigest()
    reference = parts_of(stored.document)[0]["inlineData"]["blob"]
    assert reference["name"] == stored.blobs[0].name
    assert stored.blobs[0].name != digest
    assert "name" not in parts_of(stored.identity)[0]["inlineData"]["blob"]


def test_inline_data_is_found_wherever_the_provider_takes_it():
    """In the system instruction and in the parts of a function's response too, and in no other object."""
    response = {"functionResponse": {"name": "f", "response": {"inlineData": {"data": "mine"}}, "parts": [part(LARGE)]}}
    request = build_request([{"role": "user", "parts": [response]}], model="m", system_instruction=part(SMALL)).encode()
    stored = detached(request, blob_threshold=1)
    assert {blob.data for blob in stored.blobs} == {SMALL, LARGE}
    assert parts_of(stored.document)[0]["functionResponse"]["response"] == {"inlineData": {"data": "mine"}}


@pytest.mark.parametrize(
    "field",
    [
        {"mimeType": "image/png"},
        {"mimeType": "image/png", "blob": {"sha256": "0" * 64, "size": 1}},
        {"mimeType": "image/png", "data": "aGk=", "blob": {"sha256": "0" * 64, "size": 1}},
    ],
)
def test_what_has_no_data_is_refused(field):
    """Nobody points at a blob: references are made here."""
    request = json.loads(document(part(SMALL)))
    request["contents"][0]["parts"][0]["inlineData"] = field
    with pytest.raises(InvalidRequest, match=r"contents\[0\]\.parts\[0\]\.inlineData: .*mimeType and data"):
        detached(json.dumps(request, separators=(",", ":")).encode())


def test_base64_is_checked():
    """A message names the field."""
    request = document(part(SMALL)).replace(base64.b64encode(SMALL), b"no base64")
    with pytest.raises(InvalidRequest, match=r"contents\[0\]\.parts\[0\]\.inlineData\.data: .*base64"):
        detached(request)


def test_too_much_inline_data_names_the_setting():
    """The limit is the caller's to raise."""
    with pytest.raises(InvalidRequest, match=r"at most 1000 bytes .*GENQUEUE_MAX_INLINE_BYTES"):
        detached(document(part(LARGE)), max_inline_bytes=1000)


def test_without_a_store_large_data_names_the_setting():
    """Up to the largest request inline data is kept in the data server; beyond it needs a store."""
    request = document(part(b"\x00" * MAX_REQUEST_BYTES))
    with pytest.raises(InvalidRequest, match="set GENQUEUE_BLOB_URL"):
        detached(request, blob_url=None)
    stored = detached(request)
    assert len(stored.document) < 1000
    assert len(stored.blobs[0].data) == MAX_REQUEST_BYTES


def test_inline_data_of_tools_and_of_the_instruction_counts_as_inline_data():
    """Wherever it stands, the largest request leaves room for it."""
    large = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"\x00" * MAX_REQUEST_BYTES).decode()}}
    answer = {"functionResponse": {"name": "look", "parts": [large]}}
    request = build_request(["What is it?", answer], model="m", system_instruction=[large])
    assert len(detached(request.encode(), max_inline_bytes=10**8).document) < 1000


def test_text_beside_inline_data_is_bounded_as_ever():
    """A blob store does not make room for more text."""
    with pytest.raises(InvalidRequest, match=f"at most {MAX_REQUEST_BYTES} bytes$"):
        detached(document(part(LARGE), {"text": "x" * MAX_REQUEST_BYTES}))
