"""A streamed body from its first byte to its end, or to where it was cut."""

import pytest

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_stream import StreamReader

FIRST = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\r\n\r\n'
LAST = b'data: {"candidates":[{"finishReason":"STOP"}]}\r\n\r\n'
ERROR = b'{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"slow down"}}'

IN_A_LIST = b"[" + ERROR.replace(b",", b",\n") + b"\n]\n"


def read(*chunks):
    """Return the text read and the error that ended it, None for a whole answer."""
    reader, texts = StreamReader(), []
    try:
        for chunk in chunks:
            for said in reader.feed(chunk):
                texts.extend(piece.text for piece in said.entries)
        for said in reader.close():
            texts.extend(piece.text for piece in said.entries)
    except ProviderError as error:
        return texts, error
    return texts, None


def test_a_whole_answer_has_no_error():
    """A finish reason, or a block reason, ends an answer."""
    assert read(FIRST, LAST) == (["a"], None)
    assert read(b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n')[1] is None


def test_an_answer_whose_last_event_lacks_its_blank_line_is_whole():
    """Some proxies drop the last line end."""
    assert read(FIRST + LAST.rstrip()) == (["a"], None)


@pytest.mark.parametrize("chunks", [[], [FIRST], [FIRST, LAST[:20]], [FIRST, b"data: {"], [b": ping\n\n"]])
def test_an_answer_that_ends_without_a_reason_is_truncated(chunks):
    """A stream that just ends, between messages or inside of one, may be tried again."""
    _, error = read(*chunks)
    assert (error.code, error.retryable) == ("truncated_stream", True)


PRETTY = b"""{
  "error": {
    "code": 429,
    "message": "slow down",
    "status": "RESOURCE_EXHAUSTED",
    "details": [
      {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": "0.25s"
      }
    ]
  }
}
"""


def test_when_to_come_again_is_read_from_an_error_in_the_body():
    """Spread over lines or in one, bare or as an event."""
    one_line = b"data: " + PRETTY.replace(b"\n", b"") + b"\n\n"
    for body in (PRETTY, b"[" + PRETTY + b"]", PRETTY.replace(b"\n", b"\r\n"), one_line):
        _, error = read(FIRST + body)
        assert (error.code, error.retryable, error.retry_after) == ("RESOURCE_EXHAUSTED", True, 0.25)


@pytest.mark.parametrize(
    "page", [b"<html>\n<h1>502: Bad Gateway</h1>\n</html>\n", b"upstream connect error\n", b"\xff\xfe"]
)
def test_a_proxys_page_in_the_body_is_a_cut(page):
    """Whoever wrote it, the answer did not end; it may be tried again."""
    for chunks in ([page], [FIRST, page]):
        _, error = read(*chunks)
        assert (error.code, error.retryable) == ("truncated_stream", True)


@pytest.mark.parametrize("error_event", [b"data: " + ERROR + b"\n\n", ERROR, IN_A_LIST])
def test_an_error_in_the_body_comes_after_what_came_before_it(error_event):
    """A 429 inside the body, as an event or bare, is raised with its code once the text before it was given."""
    texts, error = read(FIRST + error_event)
    assert texts == ["a"]
    assert (error.code, error.status, error.retryable) == ("RESOURCE_EXHAUSTED", 429, True)


def test_a_broken_message_in_the_middle_is_malformed():
    """A whole event that is no JSON is not taken for a cut."""
    texts, error = read(FIRST + b"data: {]\n\n" + LAST)
    assert (texts, error.code, error.retryable) == (["a"], "malformed_chunk", True)


def test_an_endless_event_ends_the_attempt():
    """More than the parser holds is an error that a second try would only repeat."""
    texts, error = read(FIRST, *[b"x" * (16 * 1024 * 1024)] * 3)
    assert (texts, error.code, error.retryable) == (["a"], "event_too_large", False)
