"""Messages that are not ours, on our queues."""

import base64
import json
import uuid

import pytest
import redis

MODEL = "gemini-2.5-flash"
QUEUE = "generate.high"


def variant(message, body=None, **headers):
    """Return a copy of a good message with another body (bytes of JSON) or other headers."""
    copy = json.loads(message)
    copy["properties"]["delivery_tag"] = str(uuid.uuid4())
    copy["headers"] = {**copy["headers"], "id": str(uuid.uuid4()), **headers}
    if body is not None:
        copy["body"] = base64.b64encode(body).decode()
    return json.dumps(copy).encode()


@pytest.fixture
def message(own_server, client):
    """Return a message as the SDK publishes it."""
    client.submit("a message to copy", model=MODEL, lane="high")
    with redis.Redis.from_url(own_server.url()) as raw:
        return raw.rpop(QUEUE)


def test_malformed_messages_are_dropped(own_server, client, start_worker, message):
    """Whatever is pushed onto a queue, the worker says so, goes on, and answers the next job."""
    bodies = (
        b"\xff\xfe",
        b"7",
        b"[1]",
        b"{}",
        b'[["a"],{},{}]',
        b'[[1,"x"],{},{}]',
        b'[["../../x",5],{},{}]',
        b'[["3-0123",9e15],{},{}]',
    )
    strangers = [
        b"\xff\x00garbage",
        b"42",
        b"{}",
        b'{"body":"x"}',
        *(variant(message, body) for body in bodies),
        variant(message, task="nobody.knows"),
        variant(message, id=None),
        variant(message, lang=7),
        json.dumps({**json.loads(message), "content-type": "application/x-python-serialize"}).encode(),
    ]
    worker = start_worker()
    with redis.Redis.from_url(own_server.url()) as raw:
        raw.lpush(QUEUE, *strangers)
    assert client.submit("still there?", model=MODEL, lane="high").result(timeout=30).text
    assert worker.process.poll() is None
    assert "transport.dropped" in worker.log()
    assert worker.stop() == 0
