"""Documents between the data server and an attempt."""

import base64
import json

import pytest

from genqueue.ledger import Settlement
from genqueue.payload.codec import PLAIN, codec_of
from genqueue.settings import Settings
from genqueue_worker import documents
from genqueue_worker.documents import Unreadable, sealed, take_request

KEYS = "k:" + base64.b64encode(b"k" * 32).decode()
SEALING = codec_of(Settings(payload_keys=KEYS))
DOCUMENT = b'{"v":1,"model":"m","contents":[{"role":"user","parts":[{"text":"%s"}]}],"config":{}}'


@pytest.mark.parametrize("codec", [PLAIN, SEALING], ids=["plain", "sealed"])
@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_request_is_taken_once_and_not_kept(make_attempt, codec, size):
    """What is left of it in the attempt is nothing."""
    attempt = make_attempt()
    attempt.stored = codec.seal("request", DOCUMENT % (b"x" * size))
    request, laden = await take_request(codec, attempt)
    assert (request.contents[0]["parts"][0]["text"], laden) == ("x" * size, False)
    assert attempt.stored == b""


async def test_a_reference_to_a_blob_is_seen(make_attempt):
    """And a text that speaks of one is not."""
    for text, expected in ((b'say \\"blob\\":', False), (b'"},{"inlineData":{"blob":{}}},{"text":"', True)):
        attempt = make_attempt()
        attempt.stored = DOCUMENT % text
        assert (await take_request(PLAIN, attempt))[1] == expected


@pytest.mark.parametrize("stored", [SEALING.seal("request", DOCUMENT), b"", None, b"?", b"z?"])
async def test_what_does_not_open_is_left_to_a_worker_with_the_key(make_attempt, caplog, stored):
    """The log says what to do."""
    attempt = make_attempt()
    attempt.stored = stored
    with pytest.raises(Unreadable, match="cannot be opened") as caught:
        await take_request(PLAIN, attempt)
    assert caught.value.elsewhere
    assert "give every worker the keys" in caplog.text


@pytest.mark.parametrize("stored", [b"{", b'{"v":1}', b'{"model":1,"contents":[]}', b'{"model":"m","contents":[1]}'])
async def test_what_is_no_request_is_none_anywhere(make_attempt, caplog, stored):
    """Neither is one that is nested too deeply to be read."""
    deep = b'{"model":"m","contents":[' + b'{"parts":[' * 20_000 + b"]}" * 20_000 + b"]}"
    for document in (stored, deep):
        attempt = make_attempt()
        attempt.stored = document
        with pytest.raises(Unreadable) as caught:
            await take_request(PLAIN, attempt)
        assert not caught.value.elsewhere
    assert "replay or drop it" in caplog.text


async def test_a_settlement_without_keys_is_as_it_was():
    """Nothing is copied; a large result alone is compressed."""
    told = Settlement("f", "t", "succeeded", result=b'{"text":"Yes."}', replay=[{"type": "delta", "text": "Yes."}])
    assert await sealed(PLAIN, told) is told
    large = Settlement("f", "t", "succeeded", result=b'{"text":"%s"}' % (b"x" * 200_000))
    stored = await sealed(PLAIN, large)
    assert stored.result[:1] == b"z"
    assert PLAIN.open("result", stored.result) == large.result


@pytest.mark.parametrize("size", [3, documents.LARGE])
async def test_all_that_was_said_is_sealed_in_a_settlement(size):
    """Result, replay, and a provider's words, which may repeat the prompt."""
    said = "secret"[:6] * size
    told = Settlement(
        "f", "t", "failed", result=json.dumps({"text": said}), replay=[{"type": "delta", "text": said}],
        detail={"code": "INVALID_ARGUMENT", "message": said, "retryable": "0"},
    )  # fmt: skip
    stored = await sealed(SEALING, told)
    assert "secret" not in repr(stored)
    assert (stored.detail["code"], stored.detail["retryable"]) == ("INVALID_ARGUMENT", "0")
    assert SEALING.open_entry(stored.detail) == told.detail
    assert [SEALING.open_entry(entry) for entry in stored.replay] == told.replay
    assert json.loads(SEALING.open("result", stored.result)) == {"text": said}


async def test_a_settlement_without_an_answer_stays_without():
    """A cancelled attempt has no result to seal."""
    stored = await sealed(SEALING, Settlement("f", "t", "cancelled"))
    assert (stored.result, stored.replay, stored.detail) == (b"", None, {})
