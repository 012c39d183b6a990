"""A data server that is short of memory, as those who submit see it."""

import pytest
import redis

from genqueue import Client
from genqueue.errors import QueueFull

from .client_sides import CLIENTS, HandWorker

MODEL = "gemini-2.5-flash"


@pytest.fixture(params=CLIENTS)
def client(request, own_server):
    """One kind of client after the other, on a server of its own."""
    made = CLIENTS[request.param](data_url=own_server.url(), key_prefix="full", partitions=1)
    yield made
    made.close()


@pytest.fixture
def limit(own_server):
    """Return a function that leaves the server so little memory that some percent of it are used."""
    with redis.Redis.from_url(own_server.url()) as connection:
        connection.setrange("ballast", 32 * 1024 * 1024, "x")  # beside which connections and scripts weigh nothing

        def limiting(percent):
            used = connection.info("memory")["used_memory"]
            connection.config_set("maxmemory", int(used * 100 / percent) if percent else 0)
            connection.delete("full:{0}:pressure")

        yield limiting
        connection.config_set("maxmemory", 0)


def test_a_full_server_refuses_the_less_urgent_first(client, limit):
    """Each lane with when to come again; who has a job already, or asks what is being answered, is not refused."""
    items = [{"contents": f"about {lane}", "lane": lane, "model": MODEL} for lane in ("low", "normal", "high")]
    limit(93)
    low, normal, high = client.submit_many(items)
    assert isinstance(low, QueueFull)
    assert (low.lane, low.retry_after > 1, "% of its memory" in low.reason) == ("low", True, True)
    assert normal.status().state == high.status().state == "queued"
    limit(98)
    with pytest.raises(QueueFull, match="the lane normal is full"):
        client.submit("another", model=MODEL)
    assert client.submit("about high", model=MODEL, lane="low").status().lane == "low"
    limit(105)
    with pytest.raises(QueueFull, match="the lane high is full: the data server has no memory left"):
        client.submit("another", model=MODEL, lane="high")
    with pytest.raises(QueueFull, match="no memory left"):
        client.submit("another", model=MODEL, lane="high", idempotency_key="k")
    limit(0)
    assert client.submit("another", model=MODEL, idempotency_key="k").status().state == "queued"


def test_what_was_accepted_ends_on_a_full_server(own_server, limit):
    """Its worker writes, it dies, it is looked at and dropped; only a replay has to wait."""
    with Client(data_url=own_server.url(), key_prefix="full", partitions=1) as client:
        job = client.submit("What?", model=MODEL)
        limit(105)
        worker = HandWorker(own_server.url(), client._connection.keys)
        worker.take(job).fail(code="UNAVAILABLE", message="later", retryable="1")
        worker.redis.close()
        assert client.dead_letter(job.id).code == "UNAVAILABLE"
        with pytest.raises(QueueFull):
            client.replay(job.id)
        assert client.drop(job.id) is True
