"""Ringing the broker: one message or thousands, and brokers that cannot be talked to."""

import base64
import itertools
import json
from dataclasses import replace
from functools import wraps

import pytest
import redis
from celery import Celery
from celery._state import _task_stack
from celery.signals import before_task_publish
from kombu.serialization import register_json, registry

from genqueue.dispatch import BATCH, make_dispatcher
from genqueue.errors import SettingsError
from genqueue.ledger import Publication
from genqueue_lab.fault_proxy import FaultProxy

#: A traceparent for each number.
TRACE = "00-%032x-00f067aa0ba902b7-01"


@pytest.fixture
def broker(database_url):
    """Return a client of the broker."""
    with redis.Redis.from_url(database_url) as client:
        yield client


def messages(broker):
    """Take all messages off the queues, oldest first, and return them without their tags."""
    taken = []
    for lane in ("high", "low"):
        raw = broker.lrange(f"generate.{lane}", 0, -1)
        broker.delete(f"generate.{lane}")
        taken += [json.loads(one) for one in reversed(raw)]
    assert len({message["properties"].pop("delivery_tag") for message in taken}) == len(taken)
    return taken


def publications(count):
    """Return that many, on two queues in turn."""
    return [Publication(f"3-{n:020x}", f"generate.{('high', 'low')[n % 2]}", n + 1) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, BATCH + 3])
def test_all_messages_arrive_in_order(broker, database_url, count):
    """Each with the flight and its stamp, under an id of its own."""
    dispatcher = make_dispatcher(database_url)
    due = publications(count)
    dispatcher.publish(due)
    dispatcher.close()
    for lane in ("high", "low"):
        messages = [json.loads(raw)["headers"] for raw in reversed(broker.lrange(f"generate.{lane}", 0, -1))]
        expected = [one for one in due if one.queue == f"generate.{lane}"]
        assert [message["id"] for message in messages] == [f"{one.flight}.{one.stamp}" for one in expected]
        assert [message["argsrepr"] for message in messages] == [f"('{one.flight}', {one.stamp})" for one in expected]


def test_many_messages_are_as_kombu_writes_them(broker, database_url):
    """To the byte, but for the tag that each has of its own; with a trace and without."""
    dispatcher = make_dispatcher(database_url)
    due = [replace(one, traceparent=TRACE % one.stamp if one.stamp % 3 else "") for one in publications(9)]
    dispatcher.publish(due)
    together = messages(broker)
    for publication in due:
        dispatcher.publish([publication])
    assert messages(broker) == together
    dispatcher.close()


def test_whoever_watches_publications_sees_each(broker, database_url):
    """As instrumentation does, by Celery's signals; it may add to the headers."""

    def watch(headers, **_):
        headers["seen"] = True

    dispatcher = make_dispatcher(database_url)
    before_task_publish.connect(watch)
    try:
        dispatcher.publish(publications(4))
    finally:
        before_task_publish.disconnect(watch)
        dispatcher.close()
    assert [message["headers"]["seen"] for message in messages(broker)] == [True] * 4


def test_whoever_wraps_the_way_of_a_message_sees_each(broker, database_url, monkeypatch):
    """As instrumentation without signals does, whenever it comes."""
    send_task, seen = Celery.send_task, itertools.count(1)

    @wraps(send_task)
    def wrapper(*args, headers, **options):
        return send_task(*args, headers={"seen": next(seen), **(headers or {})}, **options)

    dispatcher = make_dispatcher(database_url)
    dispatcher.publish(publications(4))
    assert not any("seen" in message["headers"] for message in messages(broker))
    monkeypatch.setattr(Celery, "send_task", wrapper)
    dispatcher.publish(publications(4))
    dispatcher.close()
    assert sorted(message["headers"]["seen"] for message in messages(broker)) == [1, 2, 3, 4]


def test_a_process_may_have_a_json_of_its_own(broker, database_url):
    """What it writes is no text to look for ids in."""
    registry.register("json", lambda value: json.dumps(value, indent=1), json.loads, "application/json", "utf-8")
    try:
        dispatcher = make_dispatcher(database_url)
        dispatcher.publish(publications(6))
        dispatcher.close()
    finally:
        register_json()
    for message in messages(broker):
        flight, stamp = json.loads(base64.b64decode(message["body"]))[0]
        assert message["headers"]["id"] == f"{flight}.{stamp}"


def test_within_a_task_each_message_has_its_parent(broker, database_url):
    """Another task's are others; and nobody is to wait for such a child."""
    app = Celery(set_as_current=False)
    dispatcher = make_dispatcher(database_url)
    for parent in ("one", "two"):
        task = app.tasks["celery.backend_cleanup"]
        task.push_request(id=parent, root_id="root", called_directly=False, children=[])
        _task_stack.push(task)
        try:
            dispatcher.publish(publications(4))
            assert task.request.children == []
        finally:
            _task_stack.pop()
            task.pop_request()
        headers = [message["headers"] for message in messages(broker)]
        assert [(one["root_id"], one["parent_id"]) for one in headers] == [("root", parent)] * 4
    dispatcher.close()


def test_many_messages_are_one_round_trip(server, database_url):
    """All of them are on the wire before the first is answered, which here none is."""
    gathered = []

    def gather(command):
        gathered.extend(command[2:] if command[0] == b"LPUSH" else ())
        return command[0] == b"LPUSH"

    with FaultProxy(server.port) as proxy:
        dispatcher = make_dispatcher(proxy.url(int(database_url.rpartition("/")[2])))
        dispatcher.publish(publications(1))
        proxy.fault("stall", gather, times=None)
        dispatcher.publish(publications(BATCH))
        dispatcher.close()
    assert len(gathered) == BATCH


def test_a_batch_that_is_cut_is_logged(server, database_url, caplog):
    """What is lost of it is the sweep's."""
    with FaultProxy(server.port) as proxy:
        dispatcher = make_dispatcher(proxy.url(int(database_url.rpartition("/")[2])))
        proxy.fault("after", lambda command: command[0] == b"LPUSH", times=None)
        assert not dispatcher.publish(publications(5))
        assert not dispatcher.publish(publications(5))  # and is not said each time while that goes on
        dispatcher.close()
    (record,) = [record for record in caplog.records if record.name == "genqueue.dispatch"]
    assert "dispatch.failed messages=5" in record.getMessage()
    assert "uncertain" not in record.getMessage()  # Kombu's word for any of them; the connection's own is told


@pytest.mark.parametrize("option", ["socket_timeout=5", "nonsense=1", "virtual_host=2"])
def test_an_option_that_kombu_does_not_know_is_named(database_url, option):
    """With the variable; its value may be a secret and is not shown."""
    with pytest.raises(SettingsError, match=option.partition("=")[0]) as raised:
        make_dispatcher(f"{database_url}?{option}")
    (problem,) = raised.value.problems
    assert problem.startswith("GENQUEUE_BROKER_URL")
    assert option not in problem
