"""Whom a job may tell of its end."""

from types import SimpleNamespace

import pytest
from celery import Celery, chain, group

from genqueue.errors import InvalidRequest
from genqueue.on_done import parse_on_done

APP = Celery("test", set_as_current=False)


@APP.task(name="billing.note")
def note(*_):
    """Stand for a task of another service."""


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/done?token=1",
        "https://[2606:2800:21f:cb07::1]:8443/",
        "http://localhost:8000/x",
        "http://127.0.0.1/x",
        "http://[::1]/x",
    ],
)
def test_urls(url):
    """Kept as they are, and read back from what is stored."""
    assert parse_on_done(url) == {"url": url}
    assert parse_on_done({"url": url}) == {"url": url}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "example.com",
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https:///path",
        "https://user:pass@example.com/",
        "https://example.com:99999/",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://exämple.com/",
        "https://example.com/#part",
        "https://example.com/" + "x" * 2048,
        "https://[::1",
        {"url": None},
        {"url": "http://example.com"},
        17,
        {},
        {"task": ""},
        {"task": 7},
    ],
)
def test_what_nobody_can_be_told_by(value):
    """It is refused with its name before anything is queued."""
    with pytest.raises(InvalidRequest) as raised:
        parse_on_done(value)
    assert raised.value.field == "on_done"


def test_a_signature_is_recognised_with_or_without_celery():
    """As Celery's own object, as its dict, as anything shaped like it; and read back from what is stored."""
    signature = note.s(7, loud=True).set(queue="billing")
    expected = {
        "task": "billing.note",
        "args": [7],
        "kwargs": {"loud": True},
        "options": {"queue": "billing"},
        "immutable": False,
    }
    shaped = SimpleNamespace(task="billing.note", args=(7,), kwargs={"loud": True}, options={"queue": "billing"})
    for value in (signature, dict(signature), shaped, expected):
        assert parse_on_done(value) == expected
    assert parse_on_done(note.si(7))["immutable"] is True


@pytest.mark.parametrize("value", [chain(note.s(), note.s()), group(note.s(), note.s()), {"task": "celery.chord"}])
def test_only_one_task_is_told(value):
    """A chain or a group is for that task to start."""
    with pytest.raises(InvalidRequest, match="one task"):
        parse_on_done(value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"args": "text"}, "on_done.args"),
        ({"args": [object()]}, "on_done.args[0]"),
        ({"kwargs": [1]}, "on_done.kwargs"),
        ({"kwargs": {"x": float("nan")}}, "on_done.kwargs.x"),
        ({"options": [1]}, "on_done.options"),
        ({"options": {"countdown": 5}}, "on_done.options.countdown"),
        ({"options": {"queue": 5}}, "on_done.options.queue"),
        ({"args": ["x" * 20_000]}, "on_done"),
    ],
)
def test_what_a_signature_cannot_say_is_refused(changes, field):
    """Nothing of it is dropped in silence."""
    with pytest.raises(InvalidRequest) as raised:
        parse_on_done({"task": "billing.note", **changes})
    assert raised.value.field == field
