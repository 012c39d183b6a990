"""Many tails in one process: few connections, nothing lost, nobody held up, whatever happens to the connection."""

import asyncio
import threading

import pytest
import redis

from genqueue import AsyncClient, ledger, scripts
from genqueue.connections import BlockingConnection, pulse
from genqueue.errors import InfrastructureError, WaitTimeout
from genqueue.jobs import look_up
from genqueue.keys import Keys
from genqueue.patience import Patience
from genqueue.reading.bells import MOST_RINGS
from genqueue.reading.completions import completions
from genqueue.reading.tail import SILENCE
from genqueue.settings import Settings
from genqueue_lab.fault_proxy import FaultProxy

from .client_sides import CLIENTS, LEASES, HandWorker
from .test_tail import MODEL, Reader, in_the_stream, short

MANY = 2000
TEXTS = ("a", "b", "c")


@pytest.fixture(params=CLIENTS)
def connect(request, prefix):
    """Make clients of one kind and then of the other; all are closed afterwards."""

    def make(url, **settings):
        client = CLIENTS[request.param](data_url=url, key_prefix=prefix, **settings)
        request.addfinalizer(client.close)
        return client

    return make


@pytest.fixture
def client(connect, database_url):
    """One client of each kind."""
    return connect(database_url)


@pytest.fixture
def worker(database_url, prefix):
    """Return a worker on the same database."""
    made = HandWorker(database_url, Keys(prefix))
    yield made
    made.redis.close()


def cut_bells(worker):
    """End every pub/sub connection of the server; returns how many there were."""
    return worker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


class Pen:
    """Claims many flights, writes to them and ends them, each in a few round trips."""

    def __init__(self, url, keys):
        self._redis = redis.Redis.from_url(url)
        self._keys = keys
        self._written = 0

    def claim(self, flights):
        """Claim flights."""
        self._flights = flights
        with self._redis.pipeline(transaction=False) as asking:
            for flight in flights:
                asking.hget(self._keys.flight(flight), "stamp")
            stamps = asking.execute()
        wishes = [
            ledger.Claim(flight, "token", int(stamp), self._keys.inbox("test"), LEASES)
            for flight, stamp in zip(flights, stamps, strict=True)
        ]
        for reply in self._run(ledger.claim(self._keys, wish) for wish in wishes):
            assert isinstance(ledger.parse_claim(reply), ledger.Claimed)

    def say(self, text):
        """Write a delta to every one."""
        self._written += 1
        entry = [{"type": "delta", "text": text}]
        self._run(ledger.append(self._keys, flight, "token", self._written, entry) for flight in self._flights)

    def end(self):
        """Let every one succeed."""
        ends = [ledger.Settlement(flight, "token", "succeeded", self._written + 1) for flight in self._flights]
        self._run(ledger.settle(self._keys, end) for end in ends)

    def _run(self, calls):
        return scripts.run_many(self._redis, list(calls))

    def close(self):
        """Disconnect."""
        self._redis.close()


async def test_two_thousand_tails_share_a_few_connections(own_server, prefix):
    """Every event reaches its reader, once and in order."""
    pen = Pen(own_server.url(), Keys(prefix))
    async with AsyncClient(data_url=own_server.url(), key_prefix=prefix, broker_url="memory://") as client:
        items = [{"contents": f"{number}", "model": MODEL, "share": "none"} for number in range(MANY)]
        jobs = await client.submit_many(items)
        started = asyncio.Semaphore(0)

        async def read(job):
            texts = []
            async for event in job.tail():
                if event.type == "queued":
                    started.release()
                texts.append(event.text or event.type)
            return texts

        reading = [asyncio.create_task(read(job)) for job in jobs]
        for _ in jobs:
            await started.acquire()
        flights = [(await job.stream_key()).rpartition(":")[2] for job in jobs]
        await asyncio.to_thread(pen.claim, flights)
        for text in TEXTS:
            await asyncio.to_thread(pen.say, text)
        counted = await asyncio.to_thread(connections, own_server.url())
        await asyncio.to_thread(pen.end)
        assert set(map(tuple, await asyncio.gather(*reading))) == {("queued", *TEXTS, "completed")}
        assert counted <= 25
    pen.close()


def connections(url):
    """Return how many clients a server has."""
    with redis.Redis.from_url(url) as asking:
        return asking.info("clients")["connected_clients"]


def test_a_slow_reader_holds_up_nobody(client, worker):
    """Others see everything while he stands still; then he sees everything too, and his inbox was never large."""
    job = client.submit("What?", model=MODEL)
    slow = iter(job.tail())
    assert next(slow).type == "queued"
    shift = worker.take(job)
    shift.say("first")
    assert next(slow).text == "first"
    quick = Reader(client.job(job.id))
    quick.has(2)
    count = 5 * MOST_RINGS
    for number in range(count):
        shift.say(str(number))
    quick.has(2 + count)
    shift.succeed()
    assert [event.text for event in quick.finished() if event.text][1:] == [str(number) for number in range(count)]
    assert [event.text for event in slow if event.text] == [str(number) for number in range(count)]


def test_losing_the_bells_again_and_again_costs_no_event(client, worker):
    """No gap and no repeat, though the pub/sub connection is killed in the middle of everything."""
    job = client.submit("What?", model=MODEL)
    readers = [Reader(client.job(job.id)) for _ in range(5)]
    shift = worker.take(job)
    shift.say("Y")
    for reader in readers:
        reader.has(2)
    killed = 0
    for number in range(30):
        killed += cut_bells(worker)
        shift.say(str(number))
        shift.say("and", "on")
    shift.succeed()
    everything = in_the_stream(worker, job)
    assert [short(reader.finished()) for reader in readers] == [everything] * 5
    assert killed > 0


def test_bells_that_fall_silent_are_found_out(connect, worker, database_url, server, monkeypatch):
    """A connection that is open on our side only, as after a firewall forgot it, is replaced; nothing is missed."""
    monkeypatch.setattr(pulse, "PING_AFTER", 0.2)
    monkeypatch.setattr(pulse, "PONG_WITHIN", 0.2)
    with FaultProxy(server.port) as proxy:
        job = connect(proxy.url(int(database_url.rpartition("/")[2]))).submit("What?", model=MODEL)
        reader = Reader(job)
        reader.has(1)
        shift = worker.take(job)
        shift.say("a")
        reader.has(2)
        silence = proxy.fault("stall", lambda command: command[0] == b"PING", times=1)
        assert silence.struck.wait(10)
        shift.say("b")
        reader.has(3)
        shift.succeed()
        assert short(reader.finished()) == in_the_stream(worker, job)


def test_what_a_server_forgot_and_is_sent_again_is_shown_once(client, worker):
    """It came back without the last entries; the worker writes them anew, behind other ids."""
    job = client.submit("What?", model=MODEL)
    reader = Reader(job)
    shift = worker.take(job)
    shift.say("a", "b", "c")
    reader.has(4)
    entries = worker.redis.xrange(job.stream_key)
    seen = reader.events[-1]
    worker.redis.xdel(job.stream_key, *(entry_id for entry_id, _ in entries[2:]))
    flight = worker.keys.flight(worker.flight(job))
    worker.redis.hset(flight, mapping={"written": 1, "last": entries[1][0]})
    shift._written = 1
    shift.say("b", "c", "d")
    late = Reader(client.job(job.id), after=seen)
    shift.succeed()
    assert [event.text for event in reader.finished() if event.text] == ["a", "b", "c", "d"]
    assert [event.text for event in late.finished() if event.text] == ["d"]


def test_a_position_that_no_entry_will_pass_ends_with_the_job(client, worker):
    """Whoever resumes behind the end ends, also when the end is still to come."""
    job = client.submit("What?", model=MODEL)
    reader = Reader(job, after="18446744073709551615-18446744073709551615", heartbeat=0.05)
    reader.has(1)
    shift = worker.take(job)
    shift.say("a")
    shift.succeed()
    assert {event.id for event in reader.finished()} == {""}


def test_silence_is_told(client, worker):
    """A sign that the reader is alive, while nothing comes."""
    job = client.submit("What?", model=MODEL)
    reader = Reader(job, heartbeat=0.05)
    reader.has(4)
    worker.take(job).succeed()
    events = reader.finished()
    assert [event.type for event in events if event is not SILENCE] == ["queued", "completed"]
    assert events[1] is SILENCE


def test_jobs_are_told_as_they_end(client, worker, database_url, prefix):
    """Whatever their ends, two aboard of one flight among them; those that had ended come first."""
    jobs = [client.submit(text, model=MODEL) for text in ("early", "one", "two", "two", "gone")]
    early, one, two, three, gone = jobs
    worker.take(early).succeed()
    settings = Settings(data_url=database_url, key_prefix=prefix, broker_url="memory://")
    connection = BlockingConnection(settings)
    references = [connection.run(look_up(connection.keys, job.id)) for job in jobs]
    ended = connection.follow(completions(references, Patience(20.0)))
    assert next(ended) == early.id
    told = []
    waiting = threading.Thread(target=lambda: told.extend(ended), daemon=True)
    waiting.start()
    shift = worker.take(two)
    shift.say(*map(str, range(100)))
    gone.cancel()
    three.cancel()
    worker.take(one).fail(code="X")
    shift.succeed()
    waiting.join(20)
    assert sorted(told) == sorted(job.id for job in (one, two, three, gone))
    connection.close()


def test_a_timeout_of_many_names_one_that_has_not_ended(client, worker, database_url, prefix):
    """And tells those that have."""
    one, two = (client.submit(text, model=MODEL) for text in ("one", "two"))
    worker.take(one).succeed()
    settings = Settings(data_url=database_url, key_prefix=prefix, broker_url="memory://")
    connection = BlockingConnection(settings)
    references = [connection.run(look_up(connection.keys, job.id)) for job in (two, one)]
    ended = connection.follow(completions(references, Patience(0.0)))
    assert next(ended) == one.id
    with pytest.raises(WaitTimeout, match=two.id):
        next(ended)
    connection.close()


def test_closing_leaves_no_thread_and_ends_who_still_reads(connect, database_url):
    """A tail in the middle says that its client is closed."""
    client = connect(database_url)
    reader = Reader(client.submit("What?", model=MODEL))
    reader.has(1)
    with redis.Redis.from_url(database_url) as watching:
        while not watching.pubsub_channels():
            assert reader.is_alive()
        inner = getattr(client, "_client", None)
        client._runner.run(inner.aclose()) if inner else client.close()
        with pytest.raises(InfrastructureError, match="closed"):
            reader.finished()
    assert "genqueue-line" not in {thread.name for thread in threading.enumerate()}


def test_a_closed_client_can_be_used_again(client, worker):
    """It connects anew; what was under way when it was closed does not."""
    job = client.submit("What?", model=MODEL)
    events = iter(job.tail())
    assert next(events).type == "queued"
    inner = getattr(client, "_client", None)
    client._runner.run(inner.aclose()) if inner else client.close()
    with pytest.raises(InfrastructureError, match="closed"):
        next(events)
    worker.take(job).succeed()
    assert client.job(job.id).text() == "Yes."
