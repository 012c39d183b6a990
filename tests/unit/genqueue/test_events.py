"""Reading a stream's entries, also those of a version to come."""

import pytest

from genqueue.events import TERMINAL, Event, decode, text_of


def event(kind, text=None):
    """Return an event of one kind."""
    return Event("1-0", kind, fields={} if text is None else {"text": text})


def test_an_entry_becomes_an_event():
    """Numbers are numbers, and every field stands there as text."""
    raw = {b"type": b"delta", b"text": "né".encode(), b"v": b"1", b"attempt": b"2", b"n": b"7"}
    made = decode(b"5-1", raw)
    assert (made.id, made.type, made.attempt, made.n, made.text) == ("5-1", "delta", 2, 7, "né")
    assert made.fields["v"] == "1"
    assert decode("5-1", raw) == made


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [("delta", "text"), ("thought", "thought"), ("part", "part")],
)
def test_each_kind_of_content_has_its_attribute(kind, attribute):
    """And only that one: a thought is never taken for the answer."""
    made = decode(b"1-0", {b"type": kind.encode(), b"text": b"x", b"json": b'"x"'})
    assert {name: getattr(made, name) for name in ("text", "thought", "part")} == {
        "text": None,
        "thought": None,
        "part": None,
        attribute: "x",
    }


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {b"type": b"tomorrow", b"new": b"field"},
        {b"\xff\xfe": b"\xff", b"type": b"delta"},
        {b"type": b"delta", b"text": b"\xf0\x9f"},
        {b"type": b"part"},
        {b"type": b"delta", b"n": "²".encode(), b"attempt": b"-1"},
        {b"type": b"delta", b"n": b"1" * 5000, b"attempt": b""},
    ],
)
def test_odd_entries_are_kept_not_raised(raw):
    """A reader outlives entries of another version and bytes that are no text."""
    made = decode(b"1-0", raw)
    assert len(made.fields) == len(raw)
    assert (made.attempt, made.n) == (0, 0)
    assert made.part is None
    assert not made.terminal


def test_unknown_types_do_not_end_a_stream():
    """Only the four terminal types do."""
    assert {kind for kind in [*TERMINAL, "delta", "left", "later", ""] if event(kind).terminal} == TERMINAL


def test_text_is_what_is_left_after_every_restart():
    """What was shown of an attempt that broke off is not part of the answer, unless the next one goes on from it."""
    story = [
        event("queued"),
        event("delta", "no"),
        event("restarted"),
        event("thought", "hm"),
        event("delta", "y"),
        event("continued"),
        event("part"),
        event("delta", "es"),
        event("completed"),
    ]
    assert text_of(story) == "yes"
    assert text_of(story[:2]) == "no"
    assert text_of(story[:3]) == ""
    assert text_of([]) == ""
