"""Events as frames of server-sent events."""

import json

import pytest

from genqueue import errors, frames
from genqueue.events import Event
from genqueue.reading.tail import SILENCE


def parsed(text):
    """Return the frames in a text as an EventSource reads them: lists of field and value."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    return [[tuple(line.split(": ", 1)) for line in block.split("\n")] for block in lines if block]


def test_a_frame_has_the_id_the_type_and_the_fields():
    """The data is one line of JSON."""
    event = Event("5-0", "delta", 1, 2, {"type": "delta", "text": "Yes."})
    assert parsed(frames.frame(event)) == [
        [("id", "5-0"), ("event", "delta"), ("data", '{"type":"delta","text":"Yes."}')]
    ]


@pytest.mark.parametrize(
    "end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\n\nid: 9-9\n\n"]
)
def test_no_text_can_end_a_line(end):
    """Neither where the standard ends one nor where a reader's language does; and it arrives as it was."""
    text = f"before{end}after \u00e9\u4f60\U0001f600"
    frame = frames.frame(Event("5-0", "delta", fields={"text": text}))
    assert len(frame.splitlines()) == 4
    ((_, _, (_, data)),) = parsed(frame)
    assert json.loads(data) == {"text": text}


def test_a_type_nobody_knows_cannot_break_the_stream():
    """Later versions may have other types; broken ones have one name."""
    assert "event: summary\n" in frames.frame(Event("5-0", "summary"))
    assert "event: unknown\n" in frames.frame(Event("5-0", "x\nid: 9-9"))


def test_silence_is_a_comment():
    """It has no id, so that whoever comes back goes on from the last event."""
    assert frames.frame(SILENCE) == frames.HEARTBEAT
    assert frames.HEARTBEAT.startswith(":")


def test_the_last_frame_says_what_kind_of_error_it_was():
    """And neither where our servers are nor from where on to resume."""
    error = errors.ServerUnavailable("10.1.2.3:6379/0", "refused")
    (frame,) = parsed(frames.closing("error", "17-0", error))
    assert frame[0] == ("event", "error")
    assert json.loads(frame[1][1]) == {
        "code": "server_unavailable",
        "message": "The data server did not answer in time, or refused.",
        "job_id": "17-0",
    }


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GenqueueError)],
)
def test_every_error_has_a_code_and_a_meaning(kind):
    """From its name and its docstring."""
    error = kind.__new__(kind)
    assert frames.code_of(error).replace("_", "") == kind.__name__.lower()
    assert kind.__doc__.partition("\n")[0]
