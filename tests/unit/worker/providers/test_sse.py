"""The event stream parser, on the WHATWG's rules and on cuts anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genqueue_worker.providers.sse import EventTooLargeError, SseParser


def parsed(*chunks):
    """Return all events of a stream that arrives in these chunks."""
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return [*events, *parser.close()]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\ndata: b\ndata\ndata:\n\n", [b"a\nb\n\n"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b": comment\n\n:\nevent: x\nid: 1\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"event: x\n\n\n\n", []),
        (b"data: last", [b"last"]),
        (b"", []),
    ],
)
def test_lines_and_fields_follow_the_standard(stream, events):
    """Every line end, the byte order mark, comments, several data lines and unused fields are read as they should."""
    assert parsed(stream) == events


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c"])
def test_what_python_calls_a_line_end_is_text(character):
    """Only CR and LF end a line: str.splitlines knows eight more that occur inside of JSON strings."""
    text = f'{{"text":"a{character}b"}}'.encode()
    assert parsed(b"data: " + text + b"\n\n") == [text]


def test_an_event_is_given_out_with_the_byte_that_completes_it():
    """Nothing is held back until the next event, not even after a lone CR."""
    parser = SseParser()
    assert parser.feed(b"data: a\r\n") == []
    assert parser.feed(b"\r") == [b"a"]
    assert parser.feed(b"\ndata: b\n\n") == [b"b"]


def test_bare_json_is_one_last_event():
    """An error without `data:`, as Gemini sends some, comes out whole after the events before it."""
    bare = b'{\n  "error": {\n    "code": 429\n  }\n}\n'
    assert parsed(b"data: a\r\n\r\n" + bare) == [b"a", bare.strip()]


LINES = st.sampled_from(
    [b"data: a", b"data: \xe2\x80\xa8\xf0\x9f\x98\x80", b"data", b": c", b"id: 1", b'{"x": 1}', b"", b""]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
BODIES = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join)
STREAMS = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), BODIES).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(
    stream=st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), STREAMS).map(b"".join), cuts=st.sets(st.integers(0, 150))
)
def test_cuts_change_nothing(stream, cuts):
    """The same events come out wherever the bytes are cut."""
    ends = sorted({cut for cut in cuts if cut < len(stream)} | {0, len(stream)})
    chunks = [stream[start:end] for start, end in pairwise(ends)]
    assert parsed(*chunks) == parsed(stream)


@pytest.mark.parametrize("piece", [b"x" * 60, b"data: " + b"x" * 50 + b"\n", b'{"a": 1}\n' * 8, b": comment\n" * 8])
def test_an_endless_event_is_an_error_and_not_a_full_memory(piece):
    """An event longer than the limit ends the stream, whether in one line, in many, or in lines of no use."""
    parser = SseParser(max_event_bytes=100)
    parser.feed(piece)
    with pytest.raises(EventTooLargeError, match="longer than 100 bytes"):
        parser.feed(piece)


def test_a_long_stream_of_short_events_is_not_too_large():
    """The limit counts one event, not the stream."""
    parser = SseParser(max_event_bytes=100)
    assert [parser.feed(b"data: " + b"x" * 50 + b"\n\n") for _ in range(50)] == [[b"x" * 50]] * 50
