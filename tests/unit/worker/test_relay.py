"""The door from other threads to the hub thread."""

import threading

import pytest
from kombu.asynchronous import Hub
from kombu.transport.virtual import Message

from genqueue_worker.relay import Relay


@pytest.fixture
def hub():
    """A hub of kombu's that runs only when told."""
    running = Hub()
    yield running
    running.close()


def test_calls_from_another_thread_keep_their_order_and_wake_the_hub(hub):
    """The hub's own ready set would lose the order; its poll would sleep on."""
    relay, seen = Relay(), []
    relay.attach(hub)
    hub.run_once()
    sender = threading.Thread(target=lambda: [relay.send(seen.append, number) for number in range(1000)])
    sender.start()
    while len(seen) < 1000:
        hub.run_once()
    sender.join()
    assert seen == list(range(1000))


def test_a_call_that_raises_is_logged_and_the_next_is_made(hub, caplog):
    """An unguarded call would end the worker."""
    relay, seen = Relay(), []
    relay.attach(hub)
    relay.send(int, "no number")
    relay.send(seen.append, 1)
    hub.run_once()
    assert seen == [1]
    assert "pool.callback_failed" in caplog.text


def test_it_works_on_after_the_hub_was_reset(hub):
    """A reconnect resets the hub, which forgets its readers, and attaches again."""
    relay, seen = Relay(), []
    relay.attach(hub)
    hub.reset()
    relay.send(seen.append, 1)
    relay.attach(hub)
    hub.run_once()
    assert seen == [1]


def test_pumping_acknowledges_but_reads_no_messages(hub):
    """While the pool drains, acknowledgements on the hub run and anything else stays for later."""
    relay, seen = Relay(), []
    relay.attach(hub)

    class Noted(Message):
        def __init__(self):
            """Skip what a real message is made of."""

        def ack_log_error(self):
            """Note it."""
            seen.append("acknowledged")

    hub.call_soon(Noted().ack_log_error)
    hub.call_soon(seen.append, "read")
    relay.wake()
    relay.pump(1)
    assert seen == ["acknowledged"]
    hub.run_once()
    assert seen == ["acknowledged", "read"]


def test_more_wake_ups_than_the_pipe_holds_block_nobody():
    """A hub that stands for long, as in a reconnect, holds up no other thread."""
    relay = Relay()
    for _ in range(100_000):
        relay.wake()
    relay.run()
