"""Inboxes: what a reader finds in them, and what becomes of it when he is slow, cut off or left alone."""

import json
import os
import threading

import pytest

from genqueue.reading.bells import MOST_BYTES, MOST_RINGS, Heard, Inbox, Ring, parse_ring

LOST = OSError("lost")


class Desk:
    """Makes inboxes and remembers who left."""

    def __init__(self):
        self.left = []

    def inbox(self, *channels, **options):
        """Return an inbox that is heard already, and has been looked into once."""
        made = Inbox(channels or ("a",), threading.Event(), leave=self.left.append, **options)
        for channel in made.channels:
            made.confirm(channel)
        assert made.take() == Heard(out_of_step=True)
        return made


@pytest.fixture
def desk():
    """Make a place for inboxes."""
    return Desk()


def ring(kind, number=2):
    """Return a ring as the scripts make it."""
    return json.dumps([f"{number - 1}-0", f"{number}-0", ["type", kind, "v", "1"]], separators=(",", ":")).encode()


def test_a_ring_is_read_as_the_scripts_write_it():
    """Ids and fields; without fields when they were too long; broken characters do not hide it."""
    assert parse_ring(b'["1-0","2-0",["type","delta","text","a\\/b"]]') == Ring(
        "1-0", "2-0", {"type": "delta", "text": "a/b"}
    )
    assert parse_ring(b'["1-0","2-0",false]') == Ring("1-0", "2-0", None)
    assert parse_ring(b'["1-0","2-0",["text","\xff"]]') == Ring("1-0", "2-0", {"text": "\ufffd"})


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", b"1", b"{}", b'["1-0","2-0",["odd"]]', b'["1-0",2,false]', b'["1","2",[1,"x"]]']
)
def test_what_is_no_ring_is_none(payload):
    """A stranger may publish anything on our channels."""
    assert parse_ring(payload) is None


def test_rings_come_in_order_with_their_channel(desk):
    """Each once."""
    inbox = desk.inbox("a", "b")
    inbox.put("a", b"1")
    inbox.put("b", b"2")
    assert inbox.take() == Heard((("a", b"1"), ("b", b"2")))
    assert inbox.take() == Heard()


def test_nothing_is_kept_until_every_channel_is_heard(desk):
    """The reader begins with a look at the stream, which shows what came before it."""
    inbox = Inbox(("a", "b"), threading.Event(), leave=desk.left.append)
    inbox.confirm("a")
    inbox.put("a", b"1")
    assert not inbox.confirmed
    assert inbox.take() == Heard()
    inbox.confirm("b")
    assert inbox.signal.is_set()
    inbox.put("a", b"2")
    assert inbox.take() == Heard(out_of_step=True)
    inbox.put("a", b"3")
    assert inbox.take() == Heard((("a", b"3"),))


@pytest.mark.parametrize(("size", "count"), [(1, MOST_RINGS), (MOST_BYTES // 4, 4)])
def test_a_full_inbox_is_emptied_and_kept_empty_until_it_is_looked_into(desk, size, count):
    """However long nobody looks, it costs no memory."""
    inbox = desk.inbox()
    for _ in range(count):
        inbox.put("a", b"x" * size)
    assert len(inbox.take().rings) == count
    for _ in range(count * 100):
        inbox.put("a", b"x" * size)
    assert len(inbox._rings) == 0
    assert inbox.take() == Heard(out_of_step=True)
    inbox.put("a", b"y")
    assert inbox.take() == Heard((("a", b"y"),))


def test_a_lost_line_is_told_until_every_channel_is_heard_again(desk):
    """What was in the inbox is forgotten: the stream has it."""
    inbox = desk.inbox("a", "b")
    inbox.put("a", b"1")
    inbox.lose(LOST)
    assert inbox.take() == inbox.take() == Heard(away=LOST)
    assert not inbox.signal.is_set()
    inbox.confirm("a")
    assert inbox.take() == Heard(away=LOST)
    inbox.confirm("b")
    assert inbox.signal.is_set()
    assert inbox.take() == Heard(out_of_step=True)


def test_the_end_of_the_line_is_told_for_good(desk):
    """Nobody waits for what cannot come."""
    inbox = desk.inbox()
    inbox.end(LOST)
    assert inbox.signal.is_set()
    assert inbox.take() == inbox.take() == Heard(away=LOST, over=True)


@pytest.mark.parametrize("kind", ["queued", "waiting", "started", "delta", "thought", "part", "restarted", "continued"])
def test_who_waits_for_ends_is_not_woken_by_the_middle(desk, kind):
    """Thousands of deltas pass him by."""
    inbox = desk.inbox(ends_only=True)
    inbox.put("a", ring(kind))
    assert not inbox.signal.is_set()


@pytest.mark.parametrize("kind", ["completed", "failed", "cancelled", "expired", "left", "of a later version"])
def test_who_waits_for_ends_hears_whatever_may_be_one(desk, kind):
    """Also what nobody knows yet."""
    inbox = desk.inbox(ends_only=True)
    inbox.put("a", ring(kind))
    inbox.put("a", b'["1-0","2-0",false]')
    assert len(inbox.take().rings) == 2


def test_leaving_is_told_once_and_only_where_it_counts(desk, monkeypatch):
    """In a forked process the inbox is the parent's: nothing is heard and nobody is told."""
    inbox = desk.inbox()
    inbox.put("a", b"1")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert inbox.foreign
    inbox.close()
    assert desk.left == []
    assert inbox.take() == Heard(over=True)
    monkeypatch.undo()
    inbox.close()
    assert desk.left == [inbox]
