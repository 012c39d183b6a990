"""Following a stream on a real server, with both clients: late, from anywhere, through restarts and outages."""

import threading

import pytest
import redis

from genqueue.errors import ServerUnavailable, WaitTimeout
from genqueue.keys import Keys

from .client_sides import CLIENTS, HandWorker

MODEL = "gemini-2.5-flash"


@pytest.fixture(params=CLIENTS)
def connect(request, prefix):
    """Make clients of one kind and then of the other; all are closed afterwards."""

    def make(url, **settings):
        client = CLIENTS[request.param](data_url=url, key_prefix=prefix, **settings)
        request.addfinalizer(client.close)
        return client

    return make


@pytest.fixture
def hire(request, prefix):
    """Make workers that do what they are told."""

    def make(url):
        worker = HandWorker(url, Keys(prefix))
        request.addfinalizer(worker.redis.close)
        return worker

    return make


@pytest.fixture
def client(connect, database_url):
    """One client of each kind."""
    return connect(database_url)


@pytest.fixture
def worker(hire, database_url):
    """Return a worker on the same database."""
    return hire(database_url)


class Reader(threading.Thread):
    """Follows a job in a thread of its own.

    Attributes:
        events: what it has been shown.
        error: what the tail raised.
    """

    def __init__(self, job, **options):
        super().__init__(daemon=True)
        self.events = []
        self.error = None
        self._events = job.tail(**options)
        self._more = threading.Condition()
        self.start()

    def run(self):
        """Read to the end."""
        try:
            for event in self._events:
                with self._more:
                    self.events.append(event)
                    self._more.notify_all()
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.error = error

    def has(self, count):
        """Wait until it has been shown that many events."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= count, 20), self.events

    def finished(self):
        """Wait for the end and return what was shown."""
        self.join(30)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.events


def in_the_stream(worker, job):
    """Return ids and types of a stream's entries, read without the SDK."""
    return [(entry_id.decode(), fields[b"type"].decode()) for entry_id, fields in worker.redis.xrange(job.stream_key)]


def short(events):
    """Return ids and types of events."""
    return [(event.id, event.type) for event in events]


def test_events_come_as_they_are_written(client, worker):
    """Each before the next is there."""
    job = client.submit("What?", model=MODEL)
    reader = Reader(job)
    reader.has(1)
    shift = worker.take(job)
    for number, text in enumerate(("Y", "e", "s"), start=2):
        shift.say(text)
        reader.has(number)
    shift.succeed("Yes")
    assert short(reader.finished()) == in_the_stream(worker, job)


def test_many_readers_see_the_same(connect, worker, database_url):
    """Early, late, from another client, and of another job aboard."""
    jobs = [connect(database_url).submit("What?", model=MODEL) for _ in range(2)]
    readers = [Reader(job) for job in jobs]
    shift = worker.take(jobs[0])
    shift.say("Y", "es")
    readers.append(Reader(connect(database_url).job(jobs[0].id)))
    readers[0].has(3)
    shift.succeed("Yes")
    readers.append(Reader(connect(database_url).job(jobs[1].id)))
    assert {tuple(short(reader.finished())) for reader in readers} == {tuple(in_the_stream(worker, jobs[0]))}


def test_resuming_behind_any_event_gives_the_rest(client, worker):
    """Behind each id, by a handle made from the job's id: nothing twice, nothing left out, at once."""
    job = client.submit("What?", model=MODEL)
    shift = worker.take(job)
    shift.say(*"Yes.")
    shift.succeed("Yes.")
    everything = in_the_stream(worker, job)
    for index, (entry_id, _) in enumerate(everything):
        handle = client.job(job.id)
        assert short(handle.tail(entry_id, timeout=0)) == everything[index + 1 :]
    assert short(client.job(job.id).tail("0-0")) == everything


def test_a_long_stream_comes_in_pages(client, worker):
    """More than one read of it is needed."""
    job = client.submit("What?", model=MODEL)
    shift = worker.take(job)
    shift.say(*map(str, range(1300)))
    shift.succeed("done")
    assert [event.text for event in job.tail() if event.type == "delta"] == [str(n) for n in range(1300)]


def test_a_timeout_ends_the_wait_and_not_the_job(client, worker):
    """What was there is shown before it, and one may go on behind that."""
    job = client.submit("What?", model=MODEL)
    seen = []
    with pytest.raises(WaitTimeout, match=job.id):
        seen.extend([0 for event in job.tail(timeout=0.05) if seen.append(event) is not None])
    assert [event.type for event in seen] == ["queued"]
    worker.take(job).succeed()
    assert [event.type for event in job.tail(seen[-1])] == ["completed"]


def test_a_reader_that_stops_leaves_nothing_behind(client, worker):
    """Breaking off in the middle, again and again, costs nobody an event."""
    job = client.submit("What?", model=MODEL)
    worker.take(job).succeed()
    for _ in range(20):
        events = iter(job.tail())
        assert next(events).type == "queued"
        events.close()
    assert [event.type for event in job.tail()] == ["queued", "completed"]
    assert job.text() == "Yes."


def test_a_restarted_server_costs_a_reader_nothing(connect, hire, own_server):
    """Killed in the middle of a read and started again: every event once, and the wait for the result goes on."""
    job = connect(own_server.url()).submit("What?", model=MODEL)
    worker = hire(own_server.url())
    shift = worker.take(job)
    shift.say("Y", "e")
    reader = Reader(connect(own_server.url()).job(job.id))
    reader.has(3)
    own_server.kill()
    own_server.start()
    shift.say("s")
    reader.has(4)
    own_server.kill()
    own_server.start()
    shift.succeed("Yes")
    assert short(reader.finished()) == in_the_stream(worker, job)
    assert job.text() == "Yes"


def test_a_server_that_stays_away_is_an_error(connect, hire, own_server):
    """After the settings' patience; the reader can go on behind its last event when the server is back."""
    client = connect(own_server.url(), reconnect_timeout=0.2)
    job = client.submit("What?", model=MODEL)
    reader = Reader(job)
    reader.has(1)
    own_server.kill()
    with pytest.raises(ServerUnavailable, match=str(own_server.port)):
        reader.finished()
    for waiting in (job.result, job.status, client.job(job.id).result):
        with pytest.raises(ServerUnavailable):
            waiting()
    own_server.start()
    worker = hire(own_server.url())
    worker.take(job).succeed()
    assert [event.type for event in job.tail(reader.events[-1])] == ["completed"]


def test_a_result_waits_through_a_restart(connect, hire, own_server):
    """Nobody who waits for an answer has to know that the server was away."""
    job = connect(own_server.url()).submit("What?", model=MODEL)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(job.text(timeout=30)), daemon=True)
    waiting.start()
    with redis.Redis.from_url(own_server.url()) as watching:
        while not watching.pubsub_channels():
            assert waiting.is_alive()
    own_server.kill()
    own_server.start()
    hire(own_server.url()).take(job).succeed("Yes.")
    waiting.join(30)
    assert answers == ["Yes."]
