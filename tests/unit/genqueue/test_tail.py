"""Following a stream step by step: what is asked of the server, and what readers are shown."""

import json
from contextlib import suppress

import pytest

from genqueue.errors import InfrastructureError, ServerUnavailable, StreamGone, WaitTimeout
from genqueue.events import Event
from genqueue.patience import Patience
from genqueue.reading.bells import Heard
from genqueue.reading.tail import PAGE, POLL, SILENCE, tail
from genqueue.steps import Listen, Pause, Read, Run

FOR_EVER = Patience()
AT_ONCE = Heard(out_of_step=True)
#: The server's, whatever this machine's say.
CLOCK = (b"5000", b"500000")


def entry(number, kind, **fields):
    """Return a raw entry as the server gives it."""
    raw = {"type": kind, **fields}
    return f"{number}-0".encode(), {name.encode(): value.encode() for name, value in raw.items()}


QUEUED, HELLO, WORLD, DONE = entry(1, "queued"), entry(2, "delta"), entry(3, "delta"), entry(4, "completed")
MINE, THEIRS = entry(5, "left", mark="my-mark"), entry(6, "left", mark="another")


def page(*entries, newest=None, left=None, deadline=None):
    """Return the reply to a read that finds these entries; the newest of the stream is the last of them or given."""
    last = newest or (entries[-1] if entries else QUEUED)
    return [[left, deadline], [[b"s", list(entries)]] if entries else None, [last], CLOCK]


def nothing(newest=QUEUED, left=None, deadline=None):
    """Return the reply to a read that finds nothing new."""
    return page(newest=newest, left=left, deadline=deadline)


GONE = [[None, None], None, [], (1000, 0)]


def rung(before, item, *, whole=True):
    """Return an entry as it is rung."""
    entry_id, raw = item
    fields = [text.decode() for pair in raw.items() for text in pair]
    return "bell", json.dumps([f"{before}-0", entry_id.decode(), fields if whole else False]).encode()


def heard(*rings):
    """Return what an inbox holds with these rings in it."""
    return Heard(tuple(rings))


def shown(stage):
    """Return what readers were shown, in short."""
    return [(event.id, event.type) for event in stage.events]


def positions(stage):
    """Return behind which id each read began."""
    return [step.commands[1][-1] for step in stage.of(Read)]


def test_a_stream_that_has_ended_is_read_and_nobody_listens(stage, reference):
    """One round trip for all of it."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED, HELLO, DONE))
    assert shown(stage) == [("1-0", "queued"), ("2-0", "delta"), ("4-0", "completed")]
    assert len(stage.steps) == 1


def test_a_live_stream_is_read_once_more_when_it_is_heard(stage, reference):
    """What came between the first read and the confirmation is not missed; then rings are enough."""
    rings = heard(rung(2, WORLD), rung(3, DONE))
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, page(HELLO), rings)
    assert shown(stage) == [("1-0", "queued"), ("2-0", "delta"), ("3-0", "delta"), ("4-0", "completed")]
    assert [step.channels for step in stage.of(Listen)] == [(reference.bell,)]
    assert positions(stage) == ["0-0", "1-0"]


def test_the_inbox_is_closed_at_the_end_and_when_a_reader_leaves(stage, reference):
    """Nobody goes on hearing for him."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, nothing(), heard(rung(1, DONE)))
    operation = tail(reference, None, FOR_EVER)
    for reply in (None, page(QUEUED), None, inbox := type(stage.inboxes[0])()):
        operation.send(reply)
    operation.close()
    assert stage.inboxes[0].closed
    assert inbox.closed


def test_a_ring_that_was_read_before_is_dropped(stage, reference):
    """It was on its way while the stream was read."""
    rings = heard(rung(1, HELLO), rung(2, WORLD), rung(3, DONE))
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, page(HELLO, WORLD), rings)
    assert [event.id for event in stage.events] == ["1-0", "2-0", "3-0", "4-0"]


@pytest.mark.parametrize(
    "ring", [rung(2, WORLD), rung(1, HELLO, whole=False), ("bell", b"what is this"), ("bell", b'["1-0","2-0",[1,2]]')]
)
def test_a_ring_that_does_not_follow_means_reading(stage, reference, ring):
    """One before it was lost, it has no fields, or a stranger rang."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, nothing(), heard(ring), page(HELLO, WORLD, DONE))
    assert [event.id for event in stage.events] == ["1-0", "2-0", "3-0", "4-0"]
    assert positions(stage) == ["0-0", "1-0", "1-0"]


def test_a_full_inbox_means_reading(stage, reference):
    """The slow reader goes on from the stream."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, nothing(), AT_ONCE, page(HELLO, WORLD, DONE))
    assert [event.id for event in stage.events] == ["1-0", "2-0", "3-0", "4-0"]


def test_long_streams_come_in_pages(stage, reference):
    """A full page may not be the last."""
    first, rest = [entry(n, "delta") for n in range(1, PAGE + 1)], [entry(9999, "completed")]
    stage.play(tail(reference, None, FOR_EVER), page(*first), page(*rest))
    assert len(stage.events) == PAGE + 1
    assert positions(stage) == ["0-0", f"{PAGE}-0"]


def test_nothing_is_shown_behind_the_end(stage, reference):
    """What stands behind the terminal event is nobody's business."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED, DONE, HELLO))
    assert shown(stage)[-1] == ("4-0", "completed")


def test_another_members_end_is_hidden_and_ones_own_is_the_last_event(stage, reference):
    """Two jobs share a stream; each sees its own end only."""
    rings = heard(rung(6, entry(7, "delta")), rung(7, entry(8, "left", mark="my-mark")))
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED, THEIRS), AT_ONCE, nothing(THEIRS), rings)
    assert shown(stage) == [("1-0", "queued"), ("7-0", "delta"), ("8-0", "left")]


@pytest.mark.parametrize("after", ["2-0", Event("2-0", "delta")])
def test_resuming_begins_behind_the_given_event(stage, reference, after):
    """By the event or by its id."""
    stage.play(tail(reference, after, FOR_EVER), [None, [HELLO]], page(WORLD, DONE))
    assert shown(stage) == [("3-0", "delta"), ("4-0", "completed")]
    assert positions(stage)[-1] == "2-0"


@pytest.mark.parametrize(
    ("after", "newest"), [("4-0", DONE), ("9-0", DONE), ("4-5", DONE), ("10-0", entry(9, "failed"))]
)
def test_resuming_behind_the_end_ends_at_once(stage, reference, after, newest):
    """Ids are compared as the numbers they are, not as text; nothing is waited for."""
    stage.play(tail(reference, after, FOR_EVER), [None, []], nothing(newest))
    assert stage.events == []
    assert stage.of(Listen) == []


@pytest.mark.parametrize("last", [rung(1, DONE), rung(1, MINE)])
def test_resuming_behind_an_end_that_is_still_to_come_ends_with_it(stage, reference, last):
    """An id that no entry will ever pass keeps nobody for ever."""
    story = [[None, []], nothing(), AT_ONCE, nothing(), heard(rung(1, HELLO)), heard(last)]
    stage.play(tail(reference, "99-0", FOR_EVER), *story)
    assert stage.events == []


@pytest.mark.parametrize(("newest", "left"), [(DONE, None), (HELLO, b"cancelled")])
def test_whoever_resumes_behind_an_end_and_misses_its_ring_finds_it(stage, reference, newest, left):
    """At the next look."""
    story = [[None, []], nothing(), AT_ONCE, nothing(), Heard(), nothing(newest, left)]
    stage.play(tail(reference, "99-0", FOR_EVER), *story)
    assert stage.events == []


def test_resuming_behind_ones_own_end_ends_at_once(stage, reference):
    """Though the stream goes on for others."""
    stage.play(tail(reference, "5-0", FOR_EVER), [b"cancelled", [MINE]], [[QUEUED, HELLO, MINE]])
    assert stage.events == []


def test_resuming_before_ones_own_end_shows_it(stage, reference):
    """Another member's end before it is not taken for it."""
    story = [[b"cancelled", [HELLO]], [[QUEUED, THEIRS]], page(THEIRS, MINE)]
    stage.play(tail(reference, "2-0", FOR_EVER), *story)
    assert shown(stage) == [("5-0", "left")]


@pytest.mark.parametrize("after", ["3-0", Event("3-0", "delta", attempt=1, n=2)])
def test_repeats_of_what_was_seen_before_a_resume_are_dropped(stage, reference, after):
    """The event that one resumes behind says how far one had come; by its id it is looked up."""
    numbered = [entry(n, "delta", attempt="1", n=str(count)) for n, count in ((7, 1), (8, 2), (9, 3))]
    known = [entry(3, "delta", attempt="1", n="2")] if after == "3-0" else []
    stage.play(tail(reference, after, FOR_EVER), [None, known], page(*numbered, DONE))
    assert [event.id for event in stage.events] == ["9-0", "4-0"]


def test_a_reader_whose_last_event_was_lost_begins_again(stage, reference):
    """It discards whatever it was shown, at the first entry that comes, and reads all there is."""
    first = [QUEUED, entry(2, "started", attempt="1", n="1", run="a"), entry(3, "delta", attempt="1", n="2")]
    rest = [entry(7, "delta", attempt="1", n="3"), DONE]
    stage.play(tail(reference, "5-0", FOR_EVER), [None, []], page(*rest), page(*first, *rest))
    assert shown(stage)[:2] == [("0-0", "restarted"), ("1-0", "queued")]
    assert [event.type for event in stage.events][2:] == ["started", "delta", "delta", "completed"]
    assert positions(stage) == ["5-0", "5-0", "0-0"]


def test_a_stream_that_expired_is_gone(stage, reference):
    """At the start, when resuming, and while it is read."""
    for after, story in [
        (None, [GONE]),
        ("2-0", [[None, []], GONE]),
        (None, [page(QUEUED), AT_ONCE, GONE]),
        (None, [page(QUEUED), AT_ONCE, nothing(), Heard(), GONE]),
    ]:
        with pytest.raises(StreamGone, match=reference.job_id) as raised:
            stage.play(tail(reference, after, FOR_EVER), *story)
        assert raised.value.job_id == reference.job_id


def test_silence_is_not_an_end(stage, clock, reference):
    """A reader waits as long as the stream is there, and looks now and then."""
    started = clock.seconds
    quiet = [Heard(), nothing()] * 5
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, nothing(), *quiet, heard(rung(1, DONE)))
    assert clock.seconds - started == 5 * POLL
    assert shown(stage)[-1] == ("4-0", "completed")


def test_a_look_finds_what_nobody_rang_for(stage, reference):
    """Whatever went wrong with the bells."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, nothing(), Heard(), page(HELLO, DONE))
    assert shown(stage)[-1] == ("4-0", "completed")


def test_silence_is_told_to_who_asks_for_it(stage, clock, reference):
    """After each stretch of it, counted from the last event; looks go on at their own pace."""
    started = clock.seconds
    story = [page(QUEUED), AT_ONCE, nothing(), Heard(), Heard(), nothing(), Heard(), heard(rung(1, DONE))]
    stage.play(tail(reference, None, FOR_EVER, heartbeat=6.0), *story)
    assert [event.type for event in stage.events] == ["queued", "silence", "silence", "completed"]
    assert stage.events[1] is SILENCE
    assert clock.seconds - started == 12.0


def test_silence_is_told_during_an_outage_too(stage, away, reference):
    """Whoever keeps a connection to somebody else alive must go on."""
    story = [away] * 5 + [page(QUEUED), *[away] * 4, AT_ONCE, page(DONE)]
    stage.play(tail(reference, None, Patience(reconnect=60.0), heartbeat=1.0), *story)
    assert [event.type for event in stage.events].count("silence") >= 4
    assert stage.events[-1].type == "completed"


@pytest.mark.parametrize("timeout", [0.5, 3.0, 10.0, 25.0])
def test_a_timeout_passes_on_time(stage, clock, reference, timeout):
    """Not sooner and not later, whatever the length of one wait; the last thing done is to look."""
    started = clock.seconds
    quiet = [Heard(), nothing()] * (int((timeout - 0.1) // POLL) + 1)
    with pytest.raises(WaitTimeout, match=f"within {timeout:g} s") as raised:
        stage.play(tail(reference, None, Patience(timeout)), page(QUEUED), AT_ONCE, nothing(), *quiet)
    assert clock.seconds - started == pytest.approx(timeout)
    assert raised.value.job_id == reference.job_id


def test_no_time_at_all_is_enough_for_what_is_there(stage, clock, reference):
    """Nobody listens for nothing."""
    with pytest.raises(WaitTimeout):
        stage.play(tail(reference, None, Patience(0.0)), page(QUEUED, HELLO), page(WORLD), last=nothing(WORLD))
    assert [event.id for event in stage.events] == ["1-0", "2-0", "3-0"]
    assert stage.of(Listen) == []


def test_a_timeout_never_hides_what_is_there(stage, clock, reference):
    """A slow consumer gets every event that has happened, also one whose ring is still on its way."""
    operation = tail(reference, None, Patience(5.0))

    def slow():
        reply = None
        with suppress(StopIteration):
            while True:
                item = operation.send(reply)
                clock.seconds += 60
                reply = yield item

    stage.play(slow(), page(QUEUED), page(HELLO), page(WORLD), page(DONE))
    assert [event.id for event in stage.events] == ["1-0", "2-0", "3-0", "4-0"]


def test_a_lost_line_is_waited_for_and_the_stream_read_again(stage, away, reference):
    """Nothing is asked meanwhile; the read after it begins where the last one ended."""
    story = [page(QUEUED), AT_ONCE, nothing(), Heard(away=away), AT_ONCE, page(HELLO, DONE)]
    stage.play(tail(reference, None, FOR_EVER), *story)
    assert [event.id for event in stage.events] == ["1-0", "2-0", "4-0"]
    assert positions(stage) == ["0-0", "1-0", "1-0"]


def test_a_read_that_fails_is_repeated_from_the_same_place(stage, away, reference):
    """However often it fails, with growing pauses."""
    stage.play(tail(reference, None, FOR_EVER), page(QUEUED), AT_ONCE, away, away, away, page(HELLO, DONE))
    assert positions(stage) == ["0-0", "1-0", "1-0", "1-0", "1-0"]
    assert [pause.seconds for pause in stage.of(Pause)] == [0.25, 0.5, 1.0]


def test_each_outage_has_its_own_patience(stage, clock, away, reference):
    """Many short ones in a long stream do not add up."""
    outages = [reply for n in range(10, 40) for reply in (AT_ONCE, away, away, page(entry(n, "delta")))]
    stage.play(tail(reference, None, Patience(reconnect=1.0)), page(QUEUED), *outages, AT_ONCE, page(DONE))
    assert len(stage.events) == 32


@pytest.mark.parametrize(
    "story", [[], [page(QUEUED)], [page(QUEUED), AT_ONCE], [page(QUEUED), AT_ONCE, nothing(), "deaf"]]
)
def test_a_long_outage_is_an_error(stage, clock, away, reference, story):
    """After the time the settings allow, whatever one was at: reading, beginning to listen, listening."""
    started, last = clock.seconds, Heard(away=away) if "deaf" in story else away
    with pytest.raises(ServerUnavailable):
        stage.play(
            tail(reference, None, Patience(reconnect=5.0)), *(reply for reply in story if reply != "deaf"), last=last
        )
    assert clock.seconds - started == 5.0


@pytest.mark.parametrize("deaf", [False, True])
def test_a_timeout_passes_during_an_outage_too(stage, clock, away, reference, deaf):
    """The caller's own limit comes first, and is told as such."""
    started = clock.seconds
    silence = [Heard(away=away)] * 2 if deaf else [away] * 3
    story = [page(QUEUED), AT_ONCE, nothing(), *silence] if deaf else silence
    with pytest.raises(WaitTimeout):
        stage.play(tail(reference, None, Patience(2.0, 60.0)), *story, last=away)
    assert clock.seconds - started == 2.0


def test_what_another_process_listens_to_is_listened_to_anew(stage, reference):
    """A reader that was copied by a fork takes an inbox of its own, and looks."""
    story = [page(QUEUED), AT_ONCE, nothing(), Heard(over=True), AT_ONCE, page(HELLO, DONE)]
    stage.play(tail(reference, None, FOR_EVER), *story)
    assert [event.id for event in stage.events] == ["1-0", "2-0", "4-0"]
    assert len(stage.of(Listen)) == 2


def test_a_closed_client_ends_the_tail(stage, reference):
    """It says so, and does not look like the end of the job."""
    story = [page(QUEUED), AT_ONCE, nothing(), Heard(away=InfrastructureError("closed"), over=True)]
    with pytest.raises(InfrastructureError, match="closed"):
        stage.play(tail(reference, None, FOR_EVER), *story)


def due(seconds):
    """Return the deadline (ms since 1970) of a job that has so many seconds left."""
    return str(5_000_500 + int(seconds * 1000)).encode()


@pytest.mark.parametrize("heard_of", [True, False])
def test_a_job_that_nobody_ends_is_ended_soon_after_its_deadline(stage, clock, reference, heard_of):
    """There may be no worker. What that writes is rung; if not, it is read."""
    started, late, expired = clock.seconds, due(3.0), entry(2, "expired")
    story = [page(QUEUED, deadline=late), AT_ONCE, nothing(deadline=late), Heard(), [b"ended", b"", b""]]
    last = [heard(rung(1, expired))] if heard_of else [Heard(), page(expired)]
    stage.play(tail(reference, None, FOR_EVER), *story, *last)
    assert shown(stage) == [("1-0", "queued"), ("2-0", "expired")]
    assert 3.0 < clock.seconds - started < (4.0 if heard_of else 5.0)
    assert [step.call.args[1:] for step in stage.of(Run)] == [(reference.job_id, "expired")]


def test_what_is_over_when_a_reader_comes_is_ended_before_he_listens(stage, reference):
    """Also when he has no time at all."""
    late, expired = due(-9.0), entry(2, "expired")
    story = [page(QUEUED, deadline=late), nothing(deadline=late), [b"ended", b"", b""], page(expired)]
    stage.play(tail(reference, None, Patience(0.0)), *story)
    assert shown(stage) == [("1-0", "queued"), ("2-0", "expired")]


def test_a_deadline_that_has_not_passed_is_waited_for(stage, clock, reference):
    """The server says how long; asking it goes on at no pace of its own."""
    started, late = clock.seconds, due(1.0)
    story = [page(QUEUED, deadline=late), AT_ONCE, nothing(deadline=late), Heard(), [b"early", b"4000"], Heard()]
    stage.play(tail(reference, None, FOR_EVER), *story, [b"already", b"cancelled"], page(MINE, left=b"cancelled"))
    assert [event.type for event in stage.events] == ["queued", "left"]
    assert 5.0 < clock.seconds - started < 7.0


def test_an_end_that_cannot_be_seen_is_not_asked_for_all_the_time(stage, clock, reference):
    """The job's key is gone, and its flight lives on for others."""
    started, late = clock.seconds, due(-1.0)
    story = [page(QUEUED, deadline=late), [b"gone"], nothing(), AT_ONCE, nothing(deadline=late), Heard()]
    stage.play(tail(reference, None, FOR_EVER), *story, nothing(deadline=late), [b"gone"], page(DONE))
    assert clock.seconds - started == pytest.approx(POLL)


def test_a_reader_who_may_not_write_gives_up_in_the_end(stage, clock, away, reference):
    """As in any outage; what comes meanwhile is shown."""
    started, late = clock.seconds, due(-1.0)
    tries = [reply for _ in range(4) for reply in (Heard(), away)]
    story = [page(QUEUED, deadline=late), away, AT_ONCE, page(HELLO, deadline=late), *tries, Heard()]
    with pytest.raises(ServerUnavailable):
        stage.play(tail(reference, None, Patience(reconnect=5.0)), *story, last=away)
    assert [event.id for event in stage.events] == ["1-0", "2-0"]
    assert clock.seconds - started == pytest.approx(5.0)
