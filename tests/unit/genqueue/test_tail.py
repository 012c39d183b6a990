"""Following a stream step by step: what is asked of the server, and what readers are shown."""

import pytest

from genqueue.errors import InvalidRequest, ServerUnavailable, StreamGone, WaitTimeout
from genqueue.events import Event
from genqueue.patience import Patience
from genqueue.steps import BLOCK, Query, Wait
from genqueue.tail import position, tail

FOR_EVER = Patience()
HERE, GONE = [1], [0]


def entry(number, kind, **fields):
    """Return a raw entry as the server gives it."""
    raw = {"type": kind, **fields}
    return f"{number}-0".encode(), {name.encode(): value.encode() for name, value in raw.items()}


QUEUED, HELLO, WORLD, DONE = entry(1, "queued"), entry(2, "delta"), entry(3, "delta"), entry(4, "completed")
MINE, THEIRS = entry(5, "left", mark="my-mark"), entry(6, "left", mark="another")


def shown(stage):
    """Return what readers were shown, in short."""
    return [(event.id, event.type) for event in stage.events]


def test_a_whole_stream_is_shown_once_and_in_order(stage, reference):
    """From the first entry to the terminal one, each read behind the last."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED, HELLO], [WORLD], [DONE])
    assert shown(stage) == [("1-0", "queued"), ("2-0", "delta"), ("3-0", "delta"), ("4-0", "completed")]
    assert [wait.after for wait in stage.of(Wait)] == ["0-0", "2-0", "3-0"]
    assert {wait.stream for wait in stage.of(Wait)} == {reference.stream}


def test_nothing_is_asked_behind_the_end(stage, reference):
    """What stands behind the terminal event is nobody's business."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED, DONE, HELLO])
    assert shown(stage)[-1] == ("4-0", "completed")
    assert len(stage.steps) == 1


def test_the_first_read_waits_for_nothing_and_later_ones_are_bounded(stage, reference):
    """A stream that is gone is told at once; a blocking read never outlasts the socket's patience."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED], [], HERE, [DONE])
    assert [wait.seconds for wait in stage.of(Wait)] == [0.0, BLOCK, BLOCK]


def test_another_members_end_is_hidden_and_ones_own_is_the_last_event(stage, reference):
    """Two jobs share a stream; each sees its own end only."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED, THEIRS, HELLO, MINE, DONE])
    assert shown(stage) == [("1-0", "queued"), ("2-0", "delta"), ("5-0", "left")]


def test_a_read_behind_a_hidden_event_goes_on_behind_it(stage, reference):
    """It is not read again and again."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED, THEIRS], [entry(7, "completed")])
    assert [wait.after for wait in stage.of(Wait)] == ["0-0", "6-0"]


@pytest.mark.parametrize("after", ["2-0", Event("2-0", "delta")])
def test_resuming_begins_behind_the_given_event(stage, reference, after):
    """By the event or by its id."""
    stage.play(tail(reference, after, FOR_EVER), [[WORLD], None], [WORLD], [DONE])
    assert shown(stage) == [("3-0", "delta"), ("4-0", "completed")]
    assert stage.of(Wait)[0] == Wait(reference.stream, "2-0", BLOCK)


@pytest.mark.parametrize(
    ("after", "newest"), [("4-0", DONE), ("9-0", DONE), ("4-5", DONE), ("10-0", entry(9, "failed"))]
)
def test_resuming_behind_the_end_ends_at_once(stage, reference, after, newest):
    """Ids are compared as the numbers they are, not as text; nothing is waited for."""
    stage.play(tail(reference, after, FOR_EVER), [[newest], None])
    assert stage.events == []
    assert stage.of(Wait) == []


def test_resuming_behind_ones_own_end_ends_at_once(stage, reference):
    """Though the stream goes on for others."""
    stage.play(tail(reference, "5-0", FOR_EVER), [[WORLD], b"cancelled"], [[QUEUED, HELLO, MINE]])
    assert stage.events == []


def test_resuming_before_ones_own_end_shows_it(stage, reference):
    """Another member's end before it is not taken for it."""
    stage.play(tail(reference, "2-0", FOR_EVER), [[MINE], b"cancelled"], [[QUEUED, THEIRS]], [THEIRS, MINE])
    assert shown(stage) == [("5-0", "left")]


def test_a_stream_that_expired_is_gone(stage, reference):
    """At the start, when resuming, and while it is read."""
    for after, replies in [
        (None, ([], GONE)),
        ("2-0", ([[], None],)),
        (None, ([QUEUED], [], HERE, [], GONE)),
    ]:
        with pytest.raises(StreamGone, match=reference.job_id) as raised:
            stage.play(tail(reference, after, FOR_EVER), *replies)
        assert raised.value.job_id == reference.job_id


def test_silence_is_not_an_end(stage, reference):
    """A reader waits as long as the stream is there."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED], *([], HERE) * 50, [DONE])
    assert len(stage.of(Query)) == 50
    assert shown(stage)[-1] == ("4-0", "completed")


@pytest.mark.parametrize("timeout", [0.0, 0.5, 3.0, 10.0])
def test_a_timeout_passes_on_time(stage, clock, reference, timeout):
    """Not sooner and not later, whatever the length of one read."""
    started = clock.seconds
    with pytest.raises(WaitTimeout, match=f"within {timeout:g} s") as raised:
        stage.play(tail(reference, None, Patience(timeout)), [QUEUED], *([], HERE) * 20)
    assert clock.seconds - started == pytest.approx(timeout)
    assert raised.value.job_id == reference.job_id


def test_a_timeout_never_hides_what_is_there(stage, clock, reference):
    """A slow consumer, or one that only wants to look, gets every event that has happened."""
    operation = tail(reference, None, Patience(0.0))
    clock.seconds += 60
    stage.play(operation, [QUEUED, HELLO], [WORLD], [DONE])
    assert shown(stage)[-1] == ("4-0", "completed")


def test_a_short_outage_is_sat_out_without_a_gap(stage, away, reference):
    """The read after it begins where the last one ended, however often it fails."""
    stage.play(tail(reference, None, FOR_EVER), [QUEUED], away, away, [HELLO], [], away, [DONE])
    assert shown(stage) == [("1-0", "queued"), ("2-0", "delta"), ("4-0", "completed")]
    assert [wait.after for wait in stage.of(Wait)] == ["0-0", "1-0", "1-0", "1-0", "2-0", "2-0"]


def test_each_outage_has_its_own_patience(stage, clock, away, reference):
    """Many short ones in a long stream do not add up."""
    outages = [reply for number in range(10, 40) for reply in (away, away, away, [entry(number, "delta")])]
    stage.play(tail(reference, None, Patience(reconnect=1.0)), [QUEUED], *outages, [entry(99, "completed")])
    assert len(stage.events) == 32


def test_a_long_outage_is_an_error(stage, clock, away, reference):
    """After the time the settings allow."""
    started = clock.seconds
    with pytest.raises(ServerUnavailable):
        stage.play(tail(reference, None, Patience(reconnect=5.0)), [QUEUED], last=away)
    assert clock.seconds - started == 5.0


def test_a_timeout_passes_during_an_outage_too(stage, clock, away, reference):
    """The caller's own limit comes first."""
    started = clock.seconds
    with pytest.raises((WaitTimeout, ServerUnavailable)):
        stage.play(tail(reference, None, Patience(2.0, 60.0)), [QUEUED], [], HERE, last=away)
    assert clock.seconds - started <= 4.0


@pytest.mark.parametrize(
    "after",
    ["", "1", "1-", "-1", "1-2-3", "a-b", "1-0 ", "\u0661-0", 5, b"1-0", "$", "+", "18446744073709551616-0", ["1-0"]],
)
def test_what_is_no_event_id_is_refused(after):
    """Also what only the server could tell is none."""
    with pytest.raises(InvalidRequest, match="an event's id") as raised:
        position(after)
    assert raised.value.field == "after"


@pytest.mark.parametrize("after", ["0-0", "1700000000000-0", "18446744073709551615-18446744073709551615"])
def test_every_event_id_is_a_position(after):
    """Up to the largest there can be."""
    assert position(after) == after
