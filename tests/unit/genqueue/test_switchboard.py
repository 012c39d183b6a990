"""Many inboxes on one connection: what is subscribed when, and who hears what."""

import threading

import pytest

from genqueue.reading.bells import Heard, Inbox
from genqueue.reading.switchboard import BATCH, Switchboard

LOST = OSError("lost")


class Exchange:
    """A switchboard with a server that does what it is told, in order, as slowly as a test wants."""

    def __init__(self):
        self.board = Switchboard()
        self.sent = []

    def listen(self, *channels):
        """Return a new inbox on the switchboard."""
        inbox = Inbox(channels, threading.Event(), leave=self.board.remove)
        self.board.add(inbox)
        return inbox

    def send(self):
        """Return the commands that are sent now."""
        commands = list(self.board.commands())
        self.sent += commands
        return commands

    def answer(self):
        """Answer everything that was sent."""
        for verb, *channels in self.sent:
            for channel in channels:
                self.board.receive([verb.lower().encode(), channel.encode(), 1])
        self.sent.clear()

    def ring(self, channel, payload=b"x"):
        """Let a message come."""
        self.board.receive([b"message", channel.encode(), payload])


@pytest.fixture
def exchange():
    """Make a switchboard."""
    return Exchange()


def test_a_channel_is_subscribed_once_for_all_who_listen(exchange):
    """And left when the last has gone."""
    one, two = exchange.listen("a"), exchange.listen("a")
    assert exchange.send() == [("SUBSCRIBE", "a")]
    exchange.answer()
    assert one.confirmed
    assert two.confirmed
    late = exchange.listen("a")
    assert late.confirmed
    assert exchange.send() == []
    for inbox in (one, two):
        inbox.close()
    assert exchange.send() == []
    late.close()
    late.close()
    assert exchange.send() == [("UNSUBSCRIBE", "a")]
    assert exchange.board.quiet


def test_each_hears_its_own_channels_and_all_of_them(exchange):
    """What nobody listens to is dropped."""
    one, both = exchange.listen("a"), exchange.listen("a", "b")
    exchange.send()
    exchange.answer()
    one.take(), both.take()
    for channel in "abc":
        exchange.ring(channel)
    assert one.take() == Heard((("a", b"x"),))
    assert both.take() == Heard((("a", b"x"), ("b", b"x")))


def test_an_answer_to_an_older_question_confirms_nothing(exchange):
    """Between it and the newer one lies a time in which nothing was heard."""
    first = exchange.listen("a")
    exchange.send()
    first.close()
    exchange.send()
    second = exchange.listen("a")
    exchange.send()
    assert exchange.sent == [("SUBSCRIBE", "a"), ("UNSUBSCRIBE", "a"), ("SUBSCRIBE", "a")]
    exchange.board.receive([b"subscribe", b"a", 1])
    exchange.board.receive([b"unsubscribe", b"a", 0])
    assert not second.confirmed
    exchange.board.receive([b"subscribe", b"a", 1])
    assert second.confirmed


def test_who_comes_and_goes_between_two_sendings_costs_no_command(exchange):
    """Nothing is subscribed for nobody."""
    exchange.listen("a").close()
    assert exchange.send() == []
    stays = exchange.listen("b")
    exchange.send()
    exchange.answer()
    stays.close()
    comes = exchange.listen("b")
    assert exchange.send() == []
    assert comes.confirmed


def test_many_channels_are_subscribed_in_batches(exchange):
    """The first are heard while the last are still asked for."""
    for number in range(BATCH + 1):
        exchange.listen(str(number))
    assert [len(command) - 1 for command in exchange.send()] == [BATCH, 1]


def test_after_a_loss_everything_is_subscribed_anew(exchange):
    """Each inbox is out of step until its own channels are heard again; those that left are not asked for."""
    one, two, gone = exchange.listen("a"), exchange.listen("b"), exchange.listen("c")
    exchange.send()
    exchange.answer()
    for inbox in (one, two, gone):
        inbox.take()
    gone.close()
    exchange.board.lose(LOST)
    assert one.take() == Heard(away=LOST)
    assert exchange.send() == [("SUBSCRIBE", "a", "b")]
    exchange.board.receive([b"subscribe", b"a", 1])
    assert one.take() == Heard(out_of_step=True)
    assert two.take() == Heard(away=LOST)


def test_a_loss_before_the_first_answer_is_told_too(exchange):
    """Whoever waits to begin waits for nothing; an answer of the old connection counts no more."""
    inbox = exchange.listen("a")
    exchange.send()
    exchange.board.lose(LOST)
    assert inbox.away is LOST
    exchange.send()
    exchange.board.receive([b"subscribe", b"a", 1])
    assert inbox.confirmed


def test_hanging_up_is_for_when_nobody_listens(exchange):
    """A new connection begins with nothing."""
    inbox = exchange.listen("a")
    assert not exchange.board.hang_up()
    exchange.send()
    inbox.close()
    assert exchange.board.hang_up()
    exchange.listen("a")
    assert exchange.send() == [("SUBSCRIBE", "a")]


def test_the_end_reaches_everybody(exchange):
    """Who listens is told that it is over."""
    inboxes = [exchange.listen("a"), exchange.listen("b")]
    exchange.board.end(LOST)
    assert {inbox.take().over for inbox in inboxes} == {True}


@pytest.mark.parametrize(
    "message", [b"PONG", [b"pong", b""], None, [b"pmessage", b"*", b"a", b"x"], [b"x", b"a", b"y"]]
)
def test_other_messages_mean_nothing(exchange, message):
    """Answers to pings, and what a server of another kind may say."""
    inbox = exchange.listen("a")
    exchange.send()
    exchange.answer()
    inbox.take()
    exchange.board.receive(message)
    assert inbox.take() == Heard()
