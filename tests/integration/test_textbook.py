import pytest
import redis
from google import genai
from google.genai import types

from genqueue_lab.textbook import app as textbook
from genqueue_lab.textbook.producer import follow, text_of


@pytest.fixture
def database(database_url, emulator, monkeypatch):
    """Let the tasks of this process write to a database of the test's own, and ask the emulator."""
    options = types.HttpOptions(base_url=emulator.url, client_args={"verify": emulator.trust()})
    with redis.Redis.from_url(database_url) as database, genai.Client(api_key="key", http_options=options) as client:
        monkeypatch.setattr(textbook, "database", database)
        monkeypatch.setattr(textbook.app, "gemini", client, raising=False)
        yield database


def test_the_textbook_streams_an_answer(database):
    """The task writes each chunk as an event, and an end behind which the stream expires."""
    textbook.generate.apply(("gemini-2.5-flash", "hello"), task_id="job")
    events = list(follow(database, "job"))
    assert [events[0]["type"], events[-1]["type"], len(events)] == ["started", "completed", 42]
    assert len(text_of(events).split()) == 40
    assert 0 < database.ttl(textbook.stream_of("job")) <= textbook.STREAM_TTL


def test_the_textbook_tells_of_a_failure(database):
    """What is not tried again ends with the event `failed`."""
    textbook.generate.apply(("gemini-9", "hello"), task_id="job")
    events = list(follow(database, "job"))
    assert [event["type"] for event in events] == ["started", "failed"]
    assert "is not found" in events[-1]["error"]
