"""The golden streams through both of our clients: late, live, and as the rules in plain words have it."""

import threading
from functools import partial

import pytest
from tests.integration.client_sides import CLIENTS

from genqueue.errors import StreamGone
from genqueue.events import text_of as text_of_events
from genqueue.reading import tail

from .golden_streams import load, text_of, visible

GOLDEN = load()


@pytest.fixture(params=CLIENTS)
def client(request, golden, database_url, prefix):
    """Return each kind of client in turn, with the golden stream's keys."""
    made = CLIENTS[request.param](data_url=database_url, key_prefix=prefix, payload_keys=golden.payload_keys)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Have readers look soon whether a silent stream is gone."""
    monkeypatch.setattr(tail, "POLL", 0.5)


class Reader(threading.Thread):
    """Follows a job in a thread of its own.

    Attributes:
        events: what it was shown.
        end: "ended" or "gone", once it is through.
    """

    def __init__(self, job, after):
        super().__init__(daemon=True)
        self._job, self._after = job, after
        self._news = threading.Condition()
        self.events, self.end = [], None
        self.start()

    def run(self):
        """Take every event."""
        end = "ended"
        try:
            for event in self._job.tail(self._after):
                with self._news:
                    self.events.append(event)
                    self._news.notify()
        except StreamGone:
            end = "gone"
        with self._news:
            self.end = end
            self._news.notify()

    def until(self, ready):
        """Wait until a condition holds, and return whether it came to."""
        with self._news:
            return self._news.wait_for(ready, 20)

    def has(self, entry):
        """Return whether an entry was shown."""
        return any(event.id == entry for event in self.events)


def check(golden, reader):
    """Compare what a reader was shown with what the golden stream says."""
    assert reader.until(lambda: reader.end), f"{golden.says} The reader still waits, behind {reader.events[-1:]}"
    assert [(event.id, event.type, dict(event.fields)) for event in reader.events] == golden.shown_opened
    assert (text_of_events(reader.events), reader.end) == (golden.text, golden.end)


@pytest.mark.parametrize("golden", [one for one in GOLDEN.values() if not one.staged], ids=lambda one: one.name)
def test_reader_that_comes_late(golden, client, set_stage):
    """Everything is written before the reader begins."""
    stage = set_stage(golden.mark)
    stage.play(golden)
    check(golden, Reader(client.job(stage.job), golden.after))


@pytest.mark.parametrize("golden", [one for one in GOLDEN.values() if one.visible], ids=lambda one: one.name)
def test_reader_that_is_there_before(golden, client, set_stage):
    """The reader follows from its first entry on, and where the golden stream says so it is waited for."""
    stage = set_stage(golden.mark)
    start = [entry for entry in golden.entries if entry <= golden.after] or list(golden.entries)[:1]
    reader = None
    for step in golden.steps:
        for entry, fields in step.get("entries", {}).items():
            stage.write(entry, fields)
            if entry == start[-1]:
                reader = Reader(client.job(stage.job), golden.after)
        stage.disturb(step)
        if "shown" in step:
            assert reader.until(partial(reader.has, step["shown"]))
    check(golden, reader)


@pytest.mark.parametrize(
    "golden", [one for one in GOLDEN.values() if one.after == "0-0" and not one.staged], ids=lambda one: one.name
)
def test_rules_in_plain_words(golden):
    """The rules that the random flights are held against give what the golden streams say."""
    shown = visible(golden.entries.items(), golden.mark)
    assert shown == golden.shown
    assert text_of(golden.shown_opened) == golden.text
