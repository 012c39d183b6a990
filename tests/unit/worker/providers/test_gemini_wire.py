"""Gemini's messages as chunks: what becomes of each kind of part."""

import json

import pytest

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_wire import decode_chunk
from genqueue_worker.providers.seam import Piece


def entries(*parts, **candidate):
    """Decode a message of one candidate with these parts, given as JSON text."""
    fields = "".join(f',"{name}":{value}' for name, value in candidate.items())
    body = f'{{"candidates":[{{"content":{{"role":"model","parts":[{",".join(parts)}]}}{fields}}}]}}'
    return list(decode_chunk(body.encode()).entries)


def test_text_and_thoughts_are_told_apart():
    """Plain text is a delta, with `thought` a thought, and empty text says nothing."""
    assert entries(
        '{"text":"a\\u2028b"}', '{"text":"t","thought":true}', '{"text":"c","thought":false}', '{"text":""}'
    ) == [
        Piece("delta", "a\u2028b"),
        Piece("thought", "t"),
        Piece("delta", "c"),
    ]


@pytest.mark.parametrize(
    "part",
    [
        '{"functionCall": {"name":"f", "args":{"a_b": 1.0, "z":null}},  "thoughtSignature":"+/8A=="}',
        '{"inlineData":{"mimeType":"image/png","data":"AA=="}}',
        '{"executableCode":{"language":"PYTHON","code":"1"},"thought":true}',
        '{"somethingNew" : [1,2]}',
    ],
)
def test_other_parts_pass_byte_for_byte(part):
    """What is no text is a part exactly as received: spaces, order, number forms and signatures."""
    assert entries(part) == [Piece("part", json=part)]


def test_what_text_carries_besides_follows_it():
    """What a text part has besides comes right after the text, verbatim, and says that it belongs to the text."""
    assert entries(
        '{"text":"a","thoughtSignature": "+/8A=="}', '{"thought":true,"text":"t","partMetadata":{"k":1}}'
    ) == [
        Piece("delta", "a"),
        Piece("part", json='{"thoughtSignature":"+/8A=="}', about="text"),
        Piece("thought", "t"),
        Piece("part", json='{"partMetadata":{"k":1}}', about="text"),
    ]


@pytest.mark.parametrize("part", ["{}", '{"text":null}', '{"thought":true}', '{"text":"","inlineData":null}'])
def test_a_part_that_says_nothing_is_none(part):
    """The next request could not give it back: the API takes no part without anything in it."""
    assert entries(part) == []


def test_a_signature_on_empty_text_is_kept():
    """Gemini closes many answers with an empty text that carries the signature: a part as it was."""
    part = '{"text":"", "thoughtSignature":"s"}'
    assert entries(part) == [Piece("part", json=part)]


def test_what_a_candidate_tells_besides_its_content_is_a_part():
    """Citations, grounding and the like are about the candidate; nulls and harmless ratings are not kept."""
    citations = '{"citations": [{"uri":"u"}]}'
    found = entries(citationMetadata=citations, groundingMetadata="null", safetyRatings='[{"category":"C"}]')
    assert found == [Piece("part", json=f'{{"citationMetadata":{citations}}}', about="candidate")]


@pytest.mark.parametrize(
    ("reason", "ratings", "kept"),
    [
        ("SAFETY", '[{"category":"C"},{"category":"D","blocked":true}]', True),
        ("STOP", '[{"category":"D","blocked":true}]', True),
        ("SAFETY", '[{"category":"C","probability":"HIGH"}]', True),
        ("STOP", '[{"category":"C","probability":"LOW"}]', False),
        ("MAX_TOKENS", '[{"category":"C"}]', False),
        ("SAFETY", "[]", False),
    ],
)
def test_ratings_that_count_are_kept(reason, ratings, kept):
    """The ratings of a candidate that was stopped for safety say which one stopped it; those of others say nothing."""
    body = f'{{"candidates":[{{"finishReason":"{reason}","safetyRatings":{ratings}}}]}}'
    chunk = decode_chunk(body.encode())
    assert chunk.finish_reason == reason
    piece = Piece("part", json=f'{{"safetyRatings":{ratings}}}', about="candidate")
    assert chunk.entries == ((piece,) if kept else ())


def test_further_candidates_are_kept_whole():
    """Only the first candidate is the answer; another one is a part, and its end does not end the stream."""
    other = '{"index":1,"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}'
    chunk = decode_chunk(f'{{"candidates":[{other},{{"index":0,"content":{{"parts":[{{"text":"a"}}]}}}}]}}'.encode())
    assert chunk.entries == (Piece("part", json=other, about="candidate"), Piece("delta", "a"))
    assert chunk.finish_reason is None


def test_usage_model_and_unknown_fields():
    """Usage passes with all its fields, the model's version is told, and what nobody knows is no error."""
    usage = {"promptTokenCount": 1, "newCount": 2, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}]}
    chunk = decode_chunk(json.dumps({"usageMetadata": usage, "modelVersion": "m", "new": {"a": [1]}}).encode())
    assert (chunk.usage, chunk.model_version, chunk.entries) == (usage, "m", ())


def test_a_refused_prompt_says_why():
    """A prompt that was blocked gives the reason, and the feedback as a part."""
    feedback = '{"blockReason":"PROHIBITED_CONTENT","safetyRatings":[]}'
    chunk = decode_chunk(f'{{"promptFeedback":{feedback}}}'.encode())
    assert chunk.block_reason == "PROHIBITED_CONTENT"
    assert chunk.entries == (Piece("part", json=feedback, about="prompt"),)


@pytest.mark.parametrize(
    "body", ['{"candidates":null}', '{"candidates":[{}]}', '{"candidates":[{"content":null}]}', "{}"]
)
def test_empty_messages_are_empty_chunks(body):
    """Messages without content are no errors."""
    assert decode_chunk(body.encode()).entries == ()


@pytest.mark.parametrize(("code", "retryable"), [(429, True), (503, True), (400, False)])
def test_an_error_object_is_raised(code, retryable):
    """An error in place of a message has its own code, status and retry delay."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}
    error = {"code": code, "message": "no", "status": "WHY", "details": [{"@type": "other"}, retry]}
    with pytest.raises(ProviderError) as raised:
        decode_chunk(json.dumps({"error": error}).encode())
    found = raised.value
    assert (found.code, found.message, found.status, found.retry_after) == ("WHY", "no", code, 3.5)
    assert found.retryable is retryable


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'{"candidates":[{"content":7}]}',
        b'{"modelVersion":"\xff"}',
        b"<html>",
        b'{"candidates":[' + 10_000 * b"[" + 10_000 * b"]" + b"]}",
    ],
    ids=lambda body: body[:30],
)
def test_what_is_no_message_is_a_retryable_error(body):
    """Broken JSON, another shape and broken UTF-8 end the attempt, not the job."""
    with pytest.raises(ProviderError) as raised:
        decode_chunk(body)
    assert (raised.value.code, raised.value.retryable) == ("malformed_chunk", True)
