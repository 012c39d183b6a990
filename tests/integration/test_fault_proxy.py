"""The fault proxy loses exactly what it is told to."""

import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from genqueue_lab.drill.audit import wait_until
from genqueue_lab.fault_proxy import FaultProxy


@pytest.fixture
def proxy(server):
    """Return a proxy in front of the server."""
    with FaultProxy(server.port) as running:
        yield running


@pytest.fixture
def client(proxy, database_url):
    """Return a client that goes through the proxy and repeats nothing."""
    made = redis.Redis.from_url(proxy.url(int(database_url.rpartition("/")[2])), retry=Retry(NoBackoff(), 0))
    yield made
    made.close()


@pytest.fixture
def direct(database_url):
    """Return a client that does not."""
    with redis.Redis.from_url(database_url) as made:
        yield made


def incr(name):
    """Match the increments of a key."""
    return lambda command: command[:2] == (b"INCRBY", name.encode())


@pytest.mark.parametrize(("where", "done"), [("before", 0), ("after", 1), ("inside", 1)])
def test_a_cut_is_on_the_side_that_was_asked_for(proxy, client, direct, where, done):
    """The server has done the command, or has not; the caller has an error either way, and then goes on."""
    fault = proxy.fault(where, incr("a"))
    client.incr("b")
    with pytest.raises(redis.ConnectionError):
        client.incr("a")
    assert fault.struck.is_set()
    assert int(direct.get("a") or 0) == done
    assert client.incr("a") == done + 1


def test_the_nth_command_is_struck_and_no_other(proxy, client, direct):
    """What passes first is counted, also within a pipeline."""
    proxy.fault("after", incr("a"), skip=2)
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(4):
            pipeline.incr("a")
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
    assert int(direct.get("a")) == 4
    assert client.incr("a") == 5


def test_a_lifted_fault_strikes_no_more(proxy, client):
    """Until then it strikes every command."""
    fault = proxy.fault("before", times=None)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    fault.lift()
    assert client.ping()


def test_a_stalled_reply_does_not_come(proxy, database_url, direct):
    """The caller's own timeout ends it; the server has done it."""
    url = proxy.url(int(database_url.rpartition("/")[2]))
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=0.1) as impatient:
        fault = proxy.fault("stall", incr("a"))
        with pytest.raises(redis.TimeoutError):
            impatient.incr("a")
        assert fault.struck.is_set()
    assert direct.get("a") == b"1"


@pytest.mark.parametrize("value", [b"", b"x" * 200_000, b"$5\r\n*3\r\n\r\n"])
def test_values_pass_as_they_are(client, value):
    """Of any size, and if they look like the protocol."""
    client.set("a", value)
    client.rpush("l", value, value)
    assert client.get("a") == value
    assert client.lrange("l", 0, -1) == [value, value]
    assert client.get("none") is None


def test_messages_on_channels_pass(client, direct):
    """They answer no command, so they shift nothing."""
    listening = client.pubsub()
    listening.subscribe("c")
    assert listening.get_message(timeout=5)["type"] == "subscribe"
    heard = threading.Thread(target=lambda: [direct.publish("c", str(n)) for n in range(3)])
    heard.start()
    assert [listening.get_message(timeout=5)["data"] for _ in range(3)] == [b"0", b"1", b"2"]
    heard.join()
    listening.close()


def test_every_connection_can_be_cut_at_once(proxy, client):
    """New ones are taken."""
    with client.client() as held:
        assert held.ping()
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            held.ping()
    assert client.ping()


def test_a_server_that_is_away_is_away_behind_the_proxy(own_server):
    """Its connections end at once."""
    with (
        FaultProxy(own_server.port) as running,
        redis.Redis.from_url(running.url(), retry=Retry(NoBackoff(), 0)) as one,
    ):
        assert one.ping()
        own_server.kill()
        with pytest.raises(redis.ConnectionError):
            one.ping()


def test_what_is_held_comes_late(proxy, database_url, direct):
    """While the proxy holds nothing passes; what a caller gave up waiting for is done at the release."""
    url = proxy.url(int(database_url.rpartition("/")[2]))
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=0.2) as hasty:
        hasty.set("a", 1)
        proxy.hold()
        with pytest.raises(redis.TimeoutError):
            hasty.incr("a")
        assert direct.get("a") == b"1"
        proxy.release()
        assert wait_until(lambda: direct.get("a") == b"2", 10)
        assert hasty.get("a") == b"2"
