"""Requests that come as Celery messages: what is read out of them, and what becomes of them."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.exceptions import Reject

from genqueue.deployment import Deployment
from genqueue.errors import InvalidRequest, QueueFull, ServerUnavailable, StreamGone, SubmitUncertain
from genqueue.intake import Accepted
from genqueue.payload.codec import Codec
from genqueue.settings import Settings
from genqueue_worker import admission as admission_module
from genqueue_worker.admission import HIDDEN, Admission, QuietRequest, read
from genqueue_worker.transport import UNNOTED

JOB, FLIGHT = "3-" + "a" * 20, "3-" + "f" * 20
REQUEST = SimpleNamespace(id="t")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = {"contents": "What?", "model": "gemini-2.5-flash"}


class Connection:
    """Answers each submit as a test says; keeps the orders."""

    def __init__(self, keys):
        self.keys = keys
        self.deployment = Deployment(keys)
        self.settings = Settings()
        self.codec = Codec()
        self.blobs = None
        self.answers = []
        self.orders = []

    async def run(self, order):
        """Answer."""
        self.orders.append(order)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def connection(keys, monkeypatch):
    """Make a connection on which submits are seen."""
    monkeypatch.setattr(admission_module, "RETRY", 0)
    monkeypatch.setattr("genqueue.submission.submit", lambda order, intake: order)
    return Connection(keys)


def test_the_contents_may_come_either_way():
    """As the one positional argument, as a chain hands on a result, or by name."""
    assert read(REQUEST, ["What?"], {"model": "gemini-2.5-flash"}) == read(REQUEST, [], ASKED)


@pytest.mark.parametrize(
    ("args", "kwargs", "field"),
    [
        (["a", "b"], {"model": "m"}, "args"),
        (["a"], ASKED, "contents"),
        ([], {**ASKED, "lane": "urgent"}, "lane"),
        ([], {**ASKED, "colour": "red"}, "colour"),
        ([], {"contents": "What?"}, "model"),
    ],
)
def test_what_is_wrong_is_named(args, kwargs, field):
    """As the SDK names it."""
    with pytest.raises(InvalidRequest, match=f"^{field}"):
        read(REQUEST, args, kwargs)


def test_the_task_is_the_idempotency_key():
    """Unless the request has its own: a message that comes again is the same request."""
    assert read(REQUEST, [], ASKED).options.idempotency_key == "celery:t"
    assert read(REQUEST, [], {**ASKED, "idempotency_key": None}).options.idempotency_key == "celery:t"
    assert read(REQUEST, [], {**ASKED, "idempotency_key": "mine"}).options.idempotency_key == "mine"


def test_a_trace_goes_on():
    """From the message's header, unless the request names one; a header that is none is left out."""
    traced = SimpleNamespace(id="t", traceparent=TRACE)
    assert read(traced, [], ASKED).options.traceparent == TRACE
    other = TRACE.replace("b7", "c8")
    assert read(traced, [], {**ASKED, "traceparent": other}).options.traceparent == other
    for header in ("", "00-x", None, 7):
        assert read(SimpleNamespace(id="t", traceparent=header), [], ASKED).options.traceparent is None


async def test_the_caller_is_told_where_the_answer_will_be(connection):
    """By plain texts, for whatever language reads them."""
    connection.answers = [Accepted(JOB, FLIGHT, "mark")]
    told = await Admission(connection).admit(REQUEST, [], ASKED)
    assert told == {"job_id": JOB, "stream_key": connection.keys.events(FLIGHT), "leave_mark": "mark"}


async def test_an_outage_is_sat_out(connection, caplog):
    """Also one in the middle of a submit: the same order again is the same job."""
    caplog.set_level(logging.WARNING)
    away = ServerUnavailable("x", "refused")
    connection.answers = [away, SubmitUncertain(JOB, "cut"), away, Accepted(JOB, FLIGHT, "mark")]
    assert (await Admission(connection).admit(REQUEST, [], ASKED))["job_id"] == JOB
    assert connection.orders == [connection.orders[0]] * 4
    assert [message.partition(" ")[0] for message in caplog.messages] == ["admission.away", "admission.back"]


async def test_a_long_outage_hands_the_message_back(connection, monkeypatch):
    """For whichever worker the server answers first."""
    monkeypatch.setattr(admission_module, "PATIENCE", 0)
    connection.answers = [ServerUnavailable("x", "refused")]
    with pytest.raises(Reject) as caught:
        await Admission(connection).admit(REQUEST, [], ASKED)
    assert caught.value.requeue


async def test_what_is_in_no_queue_is_not_handed_back(connection, monkeypatch):
    """Its message could not be noted: this process has the only copy."""
    monkeypatch.setattr(admission_module, "PATIENCE", 0)
    monkeypatch.setattr(admission_module, "SLOTS", slots := SimpleNamespace(waiting=0))
    connection.answers = [ServerUnavailable("x", "refused"), Accepted(JOB, FLIGHT, "mark")]
    only_copy = SimpleNamespace(id="t", **{UNNOTED: True})
    assert (await Admission(connection).admit(only_copy, [], ASKED))["job_id"] == JOB
    assert slots.waiting == 0


async def test_a_full_lane_is_sat_out_and_then_handed_back(connection, monkeypatch):
    """As an outage is, but asked as often as the server wants to be."""
    full = QueueFull("low", 0.001, "97 %")
    connection.answers = [full, full, Accepted(JOB, FLIGHT, "mark")]
    assert (await Admission(connection).admit(REQUEST, [], ASKED))["job_id"] == JOB
    monkeypatch.setattr(admission_module, "PATIENCE", 0)
    connection.answers = [full]
    with pytest.raises(Reject) as caught:
        await Admission(connection).admit(REQUEST, [], ASKED)
    assert caught.value.requeue


@pytest.mark.parametrize(
    ("error", "builtin"), [(InvalidRequest("lane", "x", "a lane"), ValueError), (StreamGone(JOB), LookupError)]
)
async def test_what_fails_for_good_fails_with_what_every_client_knows(connection, error, builtin):
    """The text is ours, the type Python's own, as the class may not be there where the result is read."""
    connection.answers = [error]
    with pytest.raises(builtin) as caught:
        await Admission(connection).admit(REQUEST, [], ASKED)
    assert type(caught.value) is builtin
    assert str(caught.value) == str(error)


def test_a_prompt_is_shown_nowhere():
    """Neither to Flower nor to remote control nor in the log, whatever the sender says of it."""
    app = Celery("test", set_as_current=False)

    def submit(*args, **kwargs):
        """Do nothing."""

    task = app.task(submit, name="genqueue.submit")
    message = SimpleNamespace(
        headers={"id": "t", "task": task.name, "argsrepr": "['secret']", "kwargsrepr": "{'contents': 'secret'}"},
        body=b"",
        payload=(["secret"], {"contents": "secret"}, {}),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    request = QuietRequest(message, app=app, task=task)
    assert (request.argsrepr, request.kwargsrepr) == (HIDDEN, HIDDEN)
    shown = [request.info(), request.info(safe=True), str(request), repr(request)]
    assert "secret" not in str([*shown, {**request.request_dict, "args": (), "kwargs": {}}])


async def test_a_cut_goes_through(connection):
    """A worker that stops leaves the message to its redelivery."""
    connection.run = lambda order: asyncio.Event().wait()
    task = asyncio.ensure_future(Admission(connection).admit(REQUEST, [], ASKED))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
