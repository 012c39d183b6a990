"""Kombu's channel as ours: what is noted, and what a server's answers come to."""

import logging
from types import SimpleNamespace

import pytest
from kombu.transport import redis as stock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from genqueue.lanes import QUEUES, SUBMIT_QUEUE
from genqueue_worker.transport import UNNOTED, Channel, QoS, Transport


@pytest.fixture
def channel(monkeypatch):
    """Make a channel that never met a server."""
    made = object.__new__(Channel)
    made.connection = SimpleNamespace(client=object(), cycle=None)
    made.disconnected = []
    connection = SimpleNamespace(disconnect=lambda: made.disconnected.append(True))
    made.__dict__["client"] = SimpleNamespace(connection=connection)
    return made


@pytest.fixture
def qos(channel):
    """Make the bookkeeping of that channel."""
    made = QoS(channel)
    yield made
    made._on_collect.cancel()


@pytest.mark.parametrize("error", ["UNBLOCKED", "NOPERM", "WRONGTYPE"])
def test_an_error_reply_to_a_pop_is_a_lost_connection(channel, monkeypatch, error):
    """Celery ends a worker over the one, and reconnects after the other."""

    def refused(self, **options):
        raise ResponseError(error)

    monkeypatch.setattr(stock.Channel, "_brpop_read", refused)
    with pytest.raises(RedisConnectionError, match=error):
        channel._brpop_read()
    assert channel.disconnected


def test_only_lanes_are_taken_without_acknowledgement(channel, monkeypatch):
    """A request to admit is its message's only copy."""
    taken = {}
    monkeypatch.setattr(
        stock.Channel, "basic_consume", lambda self, queue, no_ack, *rest: taken.update({queue: no_ack})
    )
    for queue in (*QUEUES, SUBMIT_QUEUE):
        channel.basic_consume(queue, no_ack=False)
    assert taken == {**dict.fromkeys(QUEUES, True), SUBMIT_QUEUE: False}


def test_the_bookkeeping_is_nobody_elses():
    """Another app's visibility timeout must not bring back ours, nor ours theirs."""
    ours = {Channel.unacked_key, Channel.unacked_index_key, Channel.unacked_mutex_key}
    assert not ours & {stock.Channel.unacked_key, stock.Channel.unacked_index_key, stock.Channel.unacked_mutex_key}
    assert Transport.Channel is Channel


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), ResponseError("OOM")])
def test_a_message_that_cannot_be_noted_is_delivered(qos, monkeypatch, caplog, error):
    """It was popped: this process has the only copy."""

    def refuse(self, message, tag):
        raise error

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(stock.QoS, "append", refuse)
    message = SimpleNamespace(headers={})
    qos.append(message, "tag")
    assert qos.get("tag") is message
    assert message.headers == {UNNOTED: True}
    assert "transport.not_noted" in caplog.text


def test_what_was_not_noted_is_before_it_is_handed_back(qos, monkeypatch):
    """The hand-back is of what is noted; all else would be lost."""
    noted, restored = [], []
    monkeypatch.setattr(stock.QoS, "append", lambda self, message, tag: noted.append(tag))
    monkeypatch.setattr(stock.QoS, "restore_unacked", lambda self, client=None: restored.extend(self._delivered))
    qos._delivered.update(a=SimpleNamespace(headers={UNNOTED: True}), b=SimpleNamespace(headers=None))
    qos.restore_unacked()
    assert (noted, restored) == (["a"], ["a", "b"])


def test_a_server_that_takes_nothing_is_consumed_from(qos, channel, monkeypatch):
    """Entries for publishers, and messages to bring back, wait until it has room."""

    def refuse(self, *args):
        raise OutOfMemoryError("full")

    monkeypatch.setattr(stock.Channel, "_queue_bind", refuse)
    monkeypatch.setattr(stock.Channel, "maybe_refresh_binding_expiry", refuse)
    monkeypatch.setattr(stock.QoS, "restore_visible", refuse)
    channel._queue_bind("exchange", "key", "", "queue")
    channel.maybe_refresh_binding_expiry()
    assert qos.restore_visible() is None


def test_what_was_taken_without_asking_needs_no_acknowledgement(qos, monkeypatch):
    """Nor does what a lost connection has handed back."""
    monkeypatch.setattr(stock.QoS, "ack", lambda self, tag: pytest.fail("it was acknowledged"))
    qos.ack("unknown")


@pytest.mark.parametrize("left", [SimpleNamespace(client=None), None])
def test_without_a_connection_the_visibility_timeout_hands_back(qos, channel, monkeypatch, left):
    """Celery takes the connection away first, and would end the worker over the attempt."""
    monkeypatch.setattr(stock.QoS, "restore_unacked", lambda self, client=None: pytest.fail("it was tried"))
    qos._delivered["tag"] = "message"
    channel.connection = left
    qos.restore_unacked()
    assert not qos._delivered


def test_what_could_not_be_handed_back_is_forgotten(qos, monkeypatch):
    """A late acknowledgement of it would go to a channel that is closed."""

    def refuse(self, client=None):
        raise RedisConnectionError("gone")

    monkeypatch.setattr(stock.QoS, "restore_unacked", refuse)
    qos._delivered["tag"] = SimpleNamespace(headers={})
    with pytest.raises(RedisConnectionError):
        qos.restore_unacked()
    assert not qos._delivered
