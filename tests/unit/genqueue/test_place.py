"""Where a reader is: what he is shown of a stream that a crashed server came back with less of."""

import pytest

from genqueue.events import of_fields, text_of
from genqueue.reading.bells import Ring
from genqueue.reading.place import BEGINNING, Place


def entry(number, kind, attempt=1, n=0, **fields):
    """Return an event as it stands in a stream."""
    return of_fields(f"{number}-0", {"type": kind, "v": "1", "attempt": str(attempt), "n": str(n), **fields})


def started(number, run, attempt=1):
    """Return the beginning of an attempt, by a claim."""
    return entry(number, "started", attempt, 1, run=run)


def delta(number, n, text="", attempt=1):
    """Return a piece of an attempt's answer."""
    return entry(number, "delta", attempt, n, text=text)


def read(place, *entries):
    """Return what is shown of these entries."""
    raw = [(e.id.encode(), {name.encode(): text.encode() for name, text in e.fields.items()}) for e in entries]
    return [event for one in raw for event in place.read(*one)]


def in_short(shown):
    """Return ids and types."""
    return [(event.id, event.type) for event in shown]


def test_another_run_of_the_same_number_is_no_repeat():
    """What was shown of the forgotten one is discarded, in front of the new beginning."""
    place = Place("mine")
    forgotten = read(place, started(1, "a"), delta(2, 2, "Rhi"), delta(3, 3, "ne"))
    following = read(place, started(11, "b"), delta(12, 2, "El"), delta(13, 3, "be"))
    assert in_short(following) == [("11-0", "restarted"), ("11-0", "started"), ("12-0", "delta"), ("13-0", "delta")]
    assert dict(following[0].fields) == {"type": "restarted", "v": "1", "attempt": "1", "n": "0", "reason": "lost"}
    assert text_of(forgotten + following) == "Elbe"


def test_nothing_is_discarded_when_nothing_was_shown():
    """The forgotten run had only started; or the server says `restarted` itself."""
    place = Place("mine")
    assert in_short(read(place, started(1, "a"), started(2, "b"))) == [("1-0", "started"), ("2-0", "started")]
    read(place, delta(3, 2))
    again = read(place, entry(4, "restarted", 2), started(5, "c", 2))
    assert in_short(again) == [("4-0", "restarted"), ("5-0", "started")]


def test_the_same_run_written_again_is_a_repeat():
    """From its beginning on."""
    place = Place("mine")
    read(place, started(1, "a"), delta(2, 2), delta(3, 3))
    assert in_short(read(place, started(11, "a"), delta(12, 2), delta(13, 3), delta(14, 4))) == [("14-0", "delta")]


@pytest.mark.parametrize(
    ("behind", "restarted"),
    [(started(1, "a"), False), (delta(2, 2), True), (entry(3, "queued", 0), False), (None, True)],
    ids=["started", "delta", "queued", "lost"],
)
def test_resumed_reader_meets_another_run(behind, restarted):
    """It discards what its user was shown, or may have been: the run is known of `started` alone."""
    place = Place("mine", "5-0")
    place.seed(behind)
    assert in_short(read(place, started(11, "b"))) == [("11-0", "restarted")] * restarted + [("11-0", "started")]


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_resuming_behind_either_of_two_events_with_one_id(shown):
    """Both the reader's own `restarted` and the entry give the same place."""
    first = Place("mine")
    events = read(first, started(1, "a"), delta(2, 2, "Rhi"), started(11, "b"), delta(12, 2, "El"), delta(13, 3, "be"))
    kept = events[: 3 + shown]
    second = Place("mine", kept[-1].id)
    second.seed(kept[-1] if shown != 1 else started(11, "b"))
    stream = [started(11, "b"), delta(12, 2, "El"), delta(13, 3, "be")]
    rest = read(second, *(one for one in stream if int(one.id[:-2]) > int(second.last[:-2])))
    assert text_of(kept + rest) == "Elbe"


@pytest.mark.parametrize(
    "known", [entry(9, "restarted", 2), delta(9, 3, attempt=2), None], ids=["none", "other", "lost"]
)
def test_an_attempt_whose_beginning_was_not_shown_last_is_read_from_the_beginning(known):
    """Its earlier text is not on the screen; once, so that no stream is read for ever."""
    place = Place("mine", "9-0")
    place.seed(known)
    goes_on = delta(11, 3, "ne")
    assert in_short(read(place, goes_on)) == [("0-0", "restarted")]
    assert place.last == BEGINNING
    assert text_of(read(place, started(1, "a"), delta(2, 2, "Rhi"), goes_on)) == "Rhine"
    assert in_short(read(place, delta(12, 3, attempt=2), delta(13, 4))) == [("12-0", "delta"), ("13-0", "delta")]


def test_a_ring_after_which_one_begins_again_means_reading():
    """The stream has what no ring brings back."""
    place = Place("mine")
    read(place, started(1, "a"), entry(2, "restarted", 2), started(3, "b", 2))
    shown, behind = place.hear(Ring("3-0", "11-0", delta(11, 2).fields))
    assert (in_short(shown), behind, place.last) == ([("0-0", "restarted")], True, BEGINNING)


def continued(number, attempt, kept):
    """Return the beginning of an attempt that goes on from what the one before it has left."""
    return entry(number, "continued", attempt, kept=str(kept), reason="lost")


def test_what_goes_on_from_what_was_shown_is_shown_behind_it():
    """Any number of times, also when an attempt has written nothing; the numbers begin anew."""
    place = Place("mine")
    story = [started(1, "a"), delta(2, 2, "Rhi"), continued(3, 2, 2), continued(4, 3, 0), started(5, "b", 3)]
    shown = read(place, *story, delta(6, 2, "ne", 3), delta(7, 2, "ne", 3), entry(8, "completed", 3))
    assert [event.id for event in shown] == ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0", "8-0"]
    assert text_of(shown) == "Rhine"


@pytest.mark.parametrize(
    "lost",
    [
        [started(1, "a"), delta(2, 2), delta(3, 3, "what the server forgot")],
        [started(1, "a"), delta(2, 2), continued(3, 2, 2), started(4, "b", 2), delta(5, 2, "forgotten", 2)],
        [started(1, "a"), delta(2, 2), delta(3, 3), continued(4, 2, 3)],
    ],
    ids=["piece", "claim", "piece before a claim"],
)
def test_what_goes_on_from_something_else_is_read_from_the_beginning(lost):
    """Once: the server came back with less, and the next attempt goes on from that."""
    place = Place("mine")
    forgotten = read(place, *lost)
    goes_on = [continued(11, 2, 2), started(12, "c", 2), delta(13, 2, "ne", 2)]
    assert in_short(shown := read(place, goes_on[0])) == [("0-0", "restarted")]
    assert place.last == BEGINNING
    again = read(place, started(1, "a"), delta(2, 2, "Rhi"), *goes_on)
    assert text_of([*forgotten, *shown, *again]) == "Rhine"
    assert in_short(read(place, continued(14, 3, 9))) == [("14-0", "continued")]


@pytest.mark.parametrize(
    ("behind", "again"),
    [
        (delta(9, 3), False),
        (delta(9, 2), True),
        (entry(9, "waiting"), False),
        (entry(9, "restarted", 1), True),
        (None, True),
    ],
    ids=["delta", "another", "waiting", "restarted", "lost"],
)
def test_resumed_reader_meets_an_attempt_that_goes_on(behind, again):
    """An entry without a number does not tell how far its attempt had come, unless it begins one."""
    place = Place("mine", "9-0")
    place.seed(behind)
    assert in_short(read(place, continued(11, 2, 3))) == [("0-0", "restarted") if again else ("11-0", "continued")]
