"""A data server in trouble, under both clients: they recover by themselves, show each event once, and never hang."""

import asyncio
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest
import redis

from genqueue import AsyncClient, Client, ledger, scripts
from genqueue.connections import server as data_server
from genqueue.errors import JobNotFound, QueueFull, ServerUnavailable, StreamGone
from genqueue.keys import Keys
from genqueue.reading import tail
from genqueue_lab.fault_proxy import FaultProxy
from genqueue_lab.servers import RedisServer, free_port

from .client_sides import CLIENTS, HandWorker
from .test_many_tails import Pen
from .test_tail import MODEL, Reader, in_the_stream, short

#: What a replica says of itself, in its own words or in ours.
READ_ONLY = r"replica|read only"


@pytest.fixture
def make(request, prefix):
    """Make clients; all are closed afterwards."""

    def making(kind, url, **settings):
        client = kind(data_url=url, key_prefix=prefix, broker_url="memory://", **settings)
        request.addfinalizer(client.close)
        return client

    return making


@pytest.fixture(params=CLIENTS)
def connect(request, make):
    """Make clients of one kind and then of the other."""
    return partial(make, CLIENTS[request.param])


@pytest.fixture
def hire(request, prefix):
    """Make workers that do what they are told."""

    def make(url):
        worker = HandWorker(url, Keys(prefix))
        request.addfinalizer(worker.redis.close)
        return worker

    return make


class Pair:
    """A primary, its replica, and the name by which clients find whichever is the primary.

    Attributes:
        old, new: the servers.
        name: leads to the old one until `fail_over`; who is connected stays where he is.
    """

    def __init__(self, old, new, name):
        self.old, self.new, self.name = old, new, name

    def fail_over(self, *, follow=True, **config):
        """Make the new one the primary; the old one follows it, or has lost everybody."""
        with redis.Redis.from_url(self.new.url()) as new, redis.Redis.from_url(self.old.url()) as old:
            for directive, value in config.items():
                old.config_set(directive.replace("_", "-"), value)
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", self.new.port if follow else free_port())
        self.name.lead_to(self.new.port)


@pytest.fixture
def pair(own_server):
    """Start a replica beside the test's server, and wait until it has everything."""
    with redis.Redis.from_url(own_server.url()) as old:
        old.config_set("repl-diskless-sync-delay", 0)
    with (
        RedisServer(own_server.binary) as new,
        FaultProxy(own_server.port) as name,
        redis.Redis.from_url(new.url()) as asking,
    ):
        asking.config_set("repl-diskless-load", "swapdb")  # a file would be loaded within a second, not at once
        asking.replicaof("127.0.0.1", own_server.port)
        while asking.info("replication")["master_link_status"] != "up":
            assert new.pid
        yield Pair(own_server, new, name)


def replicated(pair):
    """Wait until the replica has what the primary has."""
    with redis.Redis.from_url(pair.old.url(), single_connection_client=True) as asking:
        asking.set("fence", 1, ex=60)  # WAIT is for what its own connection wrote
        assert asking.wait(1, 5000) == 1


def test_a_failover_is_followed_by_whoever_writes(make, hire, pair):
    """Connected to what is a replica now: connections are made anew, the job is accepted, its tail goes on."""
    clients = [make(kind, pair.name.url()) for kind in CLIENTS.values()]
    jobs = [client.submit("What?", model=MODEL, share="none") for client in clients]
    readers = [Reader(job) for job in jobs]
    for reader in readers:
        reader.has(1)
    replicated(pair)
    pair.fail_over()
    seconds = [client.submit("Why?", model=MODEL, share="none") for client in clients]
    worker = hire(pair.new.url())
    for client, job, reader, second in zip(clients, jobs, readers, seconds, strict=True):
        assert client.job(job.id).status().state == "queued"
        shift = worker.take(job)
        shift.say("Y", "es")
        shift.succeed("Yes")
        assert short(reader.finished()) == in_the_stream(worker, job)
        worker.take(second).succeed()
        assert second.text() == "Yes."


def test_a_failover_is_found_out_by_whoever_only_reads(connect, hire, pair, monkeypatch):
    """The old primary answers, or refuses, and hears nothing any more: the reader goes where its name leads."""
    monkeypatch.setattr(tail, "POLL", 0.2)
    monkeypatch.setattr(data_server, "ROLE_CHECK", 0.1)
    client = connect(pair.name.url())
    job = client.submit("What?", model=MODEL)
    reader = Reader(job)
    reader.has(1)
    replicated(pair)
    # one client is served what is old, the other is refused
    pair.fail_over(follow=False, replica_serve_stale_data="yes" if isinstance(client, Client) else "no")
    worker = hire(pair.new.url())
    worker.take(job).succeed()
    assert short(reader.finished()) == in_the_stream(worker, job)


def test_a_server_that_stays_read_only_is_unavailable(make, own_server):
    """A submit says so in time, and nothing was queued; a tail that would have to write gives up as in an outage."""
    clients = [make(kind, own_server.url(), reconnect_timeout=0.5) for kind in CLIENTS.values()]
    readers = [Reader(client.submit("What?", model=MODEL, share="none", deadline=0.5)) for client in clients]
    for reader in readers:
        reader.has(1)
    with redis.Redis.from_url(own_server.url()) as old:
        old.replicaof("127.0.0.1", free_port())

    def is_refused(client):
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match=READ_ONLY):
            client.submit("Why?", model=MODEL)
        assert time.monotonic() - began < 3.0

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(is_refused, clients)) == [None] * 2
    for reader in readers:
        with pytest.raises(ServerUnavailable, match=READ_ONLY):
            reader.finished()


def replace_by_an_empty_one(server):
    """Kill a server, and start one that knows nothing in its place."""
    server.kill()
    shutil.rmtree(server.directory)
    server.start()


def test_an_empty_server_in_its_place(connect, hire, own_server):
    """Who reads is told that all is gone; who submits is served, and the deployment is entered anew."""
    client = connect(own_server.url())
    job, other = (client.submit(text, model=MODEL) for text in ("What?", "Why?"))
    reader, results = Reader(job), []

    def wait_for_the_result():
        try:
            other.result()
        except JobNotFound as error:
            results.append(error.job_id)

    waiting = threading.Thread(target=wait_for_the_result, daemon=True)
    waiting.start()
    reader.has(1)
    with redis.Redis.from_url(own_server.url()) as watching:
        while len(watching.pubsub_channels()) < 2:
            assert waiting.is_alive()
    replace_by_an_empty_one(own_server)
    with pytest.raises(StreamGone):
        reader.finished()
    waiting.join(20)
    assert results == [other.id]
    with pytest.raises(JobNotFound):
        client.job(job.id).status()
    fresh = client.submit("What?", model=MODEL)
    worker = hire(own_server.url())
    assert worker.redis.hgetall(worker.keys.meta()) == {b"partitions": b"64", b"schema": b"1"}
    assert worker.redis.keys(f"{worker.keys.prefix}:*:flight:*") == [worker.keys.flight(worker.flight(fresh)).encode()]
    worker.take(fresh).succeed()
    assert fresh.text() == "Yes."


def test_a_server_that_loads_is_waited_for(make, hire, own_server):
    """It answers that it is busy; the tail goes on behind its last event, and a submit is told in time."""
    clients = [make(kind, own_server.url()) for kind in CLIENTS.values()]
    jobs = [client.submit("What?", model=MODEL, share="none") for client in clients]
    readers = [Reader(job) for job in jobs]
    for reader in readers:
        reader.has(1)
    with redis.Redis.from_url(own_server.url()) as filling:
        filling.mset({f"ballast:{number}": "x" for number in range(1000)})
        filling.bgrewriteaof()
        while filling.info("persistence")["aof_rewrite_in_progress"]:
            assert own_server.pid
    own_server.kill()
    own_server.config |= {"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
    starting = threading.Thread(target=own_server.start, daemon=True)
    starting.start()

    def refusal(client):
        while starting.is_alive():
            try:
                client.submit("Why?", model=MODEL)
            except ServerUnavailable as error:
                if "loading" in str(error).lower():
                    return error
        return None

    with ThreadPoolExecutor() as pool:
        refusals = list(pool.map(refusal, clients))
    assert [error.sent for error in refusals] == [False] * 2
    starting.join()
    worker = hire(own_server.url())
    for job, reader in zip(jobs, readers, strict=True):
        worker.take(job).succeed()
        assert short(reader.finished()) == in_the_stream(worker, job)


def test_without_memory_only_submits_are_refused(connect, hire, own_server):
    """All that was accepted goes on, also for a client that comes now: it reads, waits, is told ends, and cancels."""
    first = connect(own_server.url())
    jobs = [first.submit(text, model=MODEL) for text in ("What?", "Why?", "When?")]
    worker = hire(own_server.url())
    worker.redis.config_set("maxmemory", "1mb")
    worker.redis.script_flush()
    late = connect(own_server.url())
    for client in (first, late):
        with pytest.raises(QueueFull) as raised:
            client.submit("Where?", model=MODEL, lane="high")
        assert raised.value.retry_after > 0
    reader = Reader(late.job(jobs[0].id))
    reader.has(1)
    shift = worker.take(jobs[0])
    shift.say("Y", "es")
    reader.has(3)
    shift.succeed("Yes")
    assert short(reader.finished()) == in_the_stream(worker, jobs[0])
    assert late.job(jobs[0].id).text() == "Yes"
    assert late.job(jobs[1].id).cancel()
    assert late.job(jobs[2].id).status().state == "queued"
    with closing(late.finished("group", "one")) as ended:
        assert {next(ended).job_id, next(ended).job_id} == {jobs[0].id, jobs[1].id}


def test_a_server_with_too_many_clients(connect, hire, own_server):
    """A submit is told that nothing was queued; the tail, whose connections were cut, goes on when there is room."""
    client = connect(own_server.url())
    job = client.submit("What?", model=MODEL)
    reader = Reader(job)
    reader.has(1)
    worker = hire(own_server.url())
    with redis.Redis.from_url(own_server.url()) as watching:
        while not watching.pubsub_channels():
            assert reader.is_alive()
    shift = worker.take(job)
    newcomer = connect(own_server.url())
    worker.redis.config_set("maxclients", 1)
    worker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(ServerUnavailable) as raised:
        newcomer.submit("Why?", model=MODEL)
    assert not raised.value.sent
    worker.redis.config_set("maxclients", 1000)
    shift.say("Yes")
    shift.succeed("Yes")
    assert short(reader.finished()) == in_the_stream(worker, job)
    assert newcomer.submit("Why?", model=MODEL).status().state == "queued"


async def test_many_tails_through_outages(own_server, prefix):
    """Killed and started again, at once and after a while: every event once, in order, and none is missing."""
    many = 100
    pen = Pen(own_server.url(), Keys(prefix))
    async with AsyncClient(data_url=own_server.url(), key_prefix=prefix, broker_url="memory://") as client:
        items = [{"contents": str(number), "model": MODEL, "share": "none"} for number in range(many)]
        jobs = await client.submit_many(items)
        seen = asyncio.Semaphore(0)

        async def read(job):
            texts = []
            async for event in job.tail():
                texts.append(event.text or event.type)
                seen.release()
            return texts

        async def shown():
            for _ in jobs:
                await seen.acquire()

        reading = [asyncio.create_task(read(job)) for job in jobs]
        await shown()
        flights = [(await job.stream_key()).rpartition(":")[2] for job in jobs]
        await asyncio.to_thread(pen.claim, flights)
        for text, away in (("a", 0.1), ("b", 0.7)):
            await asyncio.to_thread(pen.say, text)
            await shown()
            own_server.kill()
            await asyncio.sleep(away)
            await asyncio.to_thread(own_server.start)
        await asyncio.to_thread(pen.say, "c")
        await asyncio.to_thread(pen.end)
        assert set(map(tuple, await asyncio.gather(*reading))) == {("queued", "a", "b", "c", "completed")}
    pen.close()


def test_a_server_that_lost_the_tail_of_its_log(connect, hire, own_server):
    """Its last second is gone: the worker writes again what is missing, and readers, early and late, show it once."""
    client = connect(own_server.url())
    job = client.submit("What?", model=MODEL)
    worker = hire(own_server.url())
    shift = worker.take(job)
    shift.say("a", "b")
    logs = list(own_server.directory.glob("**/*.incr.aof"))
    size = logs[0].stat().st_size
    shift.say("c", "d")
    reader = Reader(job)
    reader.has(5)
    resumed = reader.events[-1]
    own_server.kill()
    with logs[0].open("r+b") as log:
        log.truncate(size)
    own_server.start()
    call = ledger.append(worker.keys, worker.flight(job), shift.token, 5, [{"type": "delta", "text": "e"}])
    behind = ledger.parse_append(scripts.run(worker.redis, call))
    assert behind == ledger.Appended("gap", 2)
    shift._written = behind.written
    late = Reader(client.job(job.id), after=resumed)
    shift.say("c", "d", "e")
    shift.succeed("abcde")
    assert [event.text for event in reader.finished() if event.text] == list("abcde")
    assert [event.text for event in late.finished() if event.text] == ["e"]
