"""Replies that are lost after the server has executed, for each script: nothing is doubled, and nothing is missing.

The SDK and a worker's own run path work through a proxy that cuts their connections; an emulator gives the answers.
"""

import asyncio
import itertools
import json
from collections import Counter
from contextlib import asynccontextmanager, suppress

import pytest
import redis as redis_package

from genqueue import AsyncClient, ledger, scripts, submission
from genqueue.keys import Keys
from genqueue.lanes import LANES
from genqueue.ledger import Leases
from genqueue.patience import Patience
from genqueue_lab.fault_proxy import FaultProxy, running
from genqueue_worker import leases, runner, runtime, sweeper
from genqueue_worker.completions import delivery
from genqueue_worker.settings import WorkerSettings
from genqueue_worker.telemetry import Telemetry

MODEL = "gemini-2.5-flash"
TERMINAL = {"completed", "failed", "cancelled", "expired"}
CUTS = ["after", "inside"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Renew, look and try again as often as an impatient test."""
    monkeypatch.setattr(leases, "RENEWAL", 0.005)
    monkeypatch.setattr(delivery, "INTERVAL", 0.02)
    monkeypatch.setattr(runner, "RETRY", 0.01)
    monkeypatch.setattr("genqueue_worker.courier.RETRY", 0.01)
    monkeypatch.setattr(sweeper, "MIN_INTERVAL_MS", 0)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Let a submit ask again, however slow this machine is."""
    monkeypatch.setattr(submission, "BRIEF", Patience(reconnect=10))


class Place:
    """A worker's runtime and a client behind the proxy, and a view past it.

    Attributes:
        proxy: cuts.
        runtime: the worker's.
        client: the SDK's.
        redis: the server itself.
        keys: the deployment's keys.
    """

    def __init__(self, proxy, keys, server):
        self.proxy = proxy
        self.keys = keys
        self.redis = server

    @asynccontextmanager
    async def opened(self, settings):
        """Start the worker's runtime and the client."""
        names = ("data_url", "broker_url", "key_prefix", "connect_timeout", "command_timeout")
        async with (
            AsyncClient(**{name: getattr(settings, name) for name in names}) as self.client,
            runtime.running(settings, Telemetry(), lambda: LANES) as self.runtime,
        ):
            yield self

    def flight(self, job):
        """Return the flight a job is aboard of."""
        return self.redis.hget(self.keys.job(job.id), "flight").decode()

    async def run(self, job):
        """Do what a worker does with the job's newest message; returns the outcome in a word."""
        flight = self.flight(job)
        return await runner.run(self.runtime, flight, int(self.redis.hget(self.keys.flight(flight), "stamp")))

    def story(self, job):
        """Return the fields of the job's events."""
        entries = self.redis.xrange(self.keys.events(self.flight(job)))
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    def finished(self, job):
        """Return how often the job's end is in the finished stream."""
        stream = self.keys.slot_of_id(job.id) + "finished"
        return sum(fields[b"job"] == job.id.encode() for _, fields in self.redis.xrange(stream))

    def check(self, job, attempts=1, members=1, end="completed"):
        """Check that the flight was paid for as often as it should be, and that nothing is in it twice."""
        flight, story = self.flight(job), self.story(job)
        kinds = Counter(entry["type"] for entry in story)
        assert story[0]["type"] == "queued"
        assert story[-1]["type"] == end
        assert sum(kinds[kind] for kind in TERMINAL) == kinds["queued"] == 1
        numbered = [(int(entry["attempt"]), int(entry["n"])) for entry in story if entry["n"] != "0"]
        for attempt, numbers in itertools.groupby(numbered, key=lambda pair: pair[0]):
            assert [n for _, n in numbers] == list(range(1, Counter(a for a, _ in numbered)[attempt] + 1))
        assert int(self.redis.hget(self.keys.flight(flight), "attempt")) == attempts
        assert self.redis.zcard(f"{self.keys.slot_of_id(flight)}members:{flight}") == members
        assert self.finished(job) == 1
        assert not self.redis.zscore(f"{self.keys.slot_of_id(flight)}ledger", flight)
        if end == "completed":
            result = json.loads(self.redis.hget(self.keys.flight(flight), "result"))
            last = [entry["text"] for entry in story if entry["type"] == "delta" and entry["attempt"] == str(attempts)]
            assert "".join(last) == result["text"] != ""


@pytest.fixture
async def place(server, database_url, prefix, emulator):
    """Return a worker's runtime and a client, whose data server is behind a proxy and whose broker is not."""
    with FaultProxy(server.port) as proxy, redis_package.Redis.from_url(database_url) as direct:
        for script in scripts.SCRIPTS:  # else the reply that is lost says that the server does not know it
            direct.script_load(script.source)
        settings = WorkerSettings(
            data_url=proxy.url(int(database_url.rpartition("/")[2])),
            broker_url=database_url,
            key_prefix=prefix,
            gemini_api_key="key",
            gemini_base_url=emulator.url,
            gemini_ca_file=emulator.ca_file,
            sweep_interval=3600,
            sweep_slack=0.05,
            connect_timeout=10,
            command_timeout=10,
        )
        async with Place(proxy, Keys(prefix), direct).opened(settings) as opened:
            yield opened


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("script", [scripts.CLAIM, scripts.APPEND, scripts.RENEW, scripts.SETTLE], ids=lambda s: s.name)
async def test_a_script_of_the_run_path(place, script, where):
    """The worker asks again, and the server gives the answer it gave before."""
    job = await place.client.submit("Tell me a long story.", model=MODEL)
    fault = place.proxy.fault(where, running(script), times=2)
    assert await place.run(job) in {"succeeded", "already"}
    assert fault.struck.is_set()
    place.check(job)
    assert (await job.result(5)).text


async def test_many_cuts_in_a_whole_run(place):
    """Whatever the reply that is lost says, with several streams in one pipeline."""
    turn = itertools.count(1)
    cut = place.proxy.fault("after", lambda command: command[0] == b"EVALSHA" and next(turn) % 23 == 0, times=None)
    jobs = [await place.client.submit(f"Story {n}", model=MODEL) for n in range(8)]
    await asyncio.gather(*map(place.run, jobs))
    assert cut.struck.is_set()
    for job in jobs:
        place.check(job)


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize(("share", "members"), [("tenant", 2), ("none", 1)])
async def test_submit(place, where, share, members):
    """One job, one flight, one membership; a flight that is joined gains one member."""
    for _ in range(2):
        fault = place.proxy.fault(where, running(scripts.SUBMIT))
        job = await place.client.submit("Hello", model=MODEL, share=share)
        assert fault.struck.is_set()
    await place.run(job)
    place.check(job, members=members)


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("alone", [True, False])
async def test_leave(place, where, alone):
    """A job is cancelled once; whoever asked is told that it was."""
    job = await place.client.submit("Hello", model=MODEL)
    if not alone:
        other = await place.client.submit("Hello", model=MODEL)
    fault = place.proxy.fault(where, running(scripts.LEAVE))
    assert await job.cancel() is True
    assert fault.struck.is_set()
    assert await job.cancel() is False
    if alone:
        return place.check(job, attempts=0, end="cancelled")
    await place.run(other)
    place.check(other)
    assert [entry["type"] for entry in place.story(job)].count("left") == place.finished(job) == 1
    return None


def stamp_on_broker(place):
    """Return the flight and stamp of the newest message in front of the lane, if there is one."""
    message = place.redis.lindex("generate.normal.again", 0)
    return None if message is None else json.loads(message)["headers"]["id"]


@pytest.mark.parametrize("where", CUTS)
async def test_sweep(place, where):
    """A lost worker's flight comes again once, though what the sweep said to publish was lost."""
    job = await place.client.submit("Hello", model=MODEL)
    flight = place.flight(job)
    stamp = int(place.redis.hget(place.keys.flight(flight), "stamp"))
    claimed = ledger.claim(place.keys, ledger.Claim(flight, "lost", stamp, "nobody", Leases(1, 1, 1)))
    assert isinstance(ledger.parse_claim(scripts.run(place.redis, claimed)), ledger.Claimed)
    of_its_partition = place.keys.slot_of_id(flight).encode()
    fault = place.proxy.fault(where, lambda command: running(scripts.SWEEP)(command) and command[3] == of_its_partition)
    async with asyncio.timeout(10):
        while stamp_on_broker(place) is None:
            try:
                await place.runtime.sweeper.sweep()
            except (redis_package.ConnectionError, OSError):
                assert fault.struck.is_set()
    assert fault.struck.is_set()
    assert stamp_on_broker(place) == f"{flight}.{int(place.redis.hget(place.keys.flight(flight), 'stamp'))}"
    assert await place.run(job) == "succeeded"
    place.check(job, attempts=2)
    assert int(place.redis.hget(place.keys.flight(flight), "losses")) == 1


@pytest.mark.parametrize("where", CUTS)
async def test_mark(place, where):
    """The highest stamp popped stays the highest."""
    fault = place.proxy.fault(where, running(scripts.MARK))
    place.runtime.sweeper.saw("generate.low", 7)
    async with asyncio.timeout(10):
        while not fault.struck.is_set():
            with suppress(redis_package.ConnectionError, OSError):
                await place.runtime.sweeper.sweep()
    await place.runtime.sweeper.sweep()
    assert place.redis.hgetall(place.keys.marks()) == {b"generate.low": b"7"}


@pytest.mark.parametrize("where", CUTS)
async def test_purge(place, where):
    """All is erased, and whoever asked is told that there was something."""
    job = await place.client.submit("Hello", model=MODEL, idempotency_key="k")
    await place.run(job)
    fault = place.proxy.fault(where, running(scripts.PURGE))
    assert await place.client.purge(job.id) is True
    assert fault.struck.is_set()
    left = {key for key in place.redis.scan_iter(match=f"{place.keys.prefix}:*") if b"{" in key}
    assert not {key for key in left if any(kind in key for kind in (b"job:", b"flight:", b"events:", b"idem:"))}


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("script", [scripts.COLLECT, scripts.DELIVERED], ids=lambda s: s.name)
async def test_a_script_of_the_outbox(place, script, where, monkeypatch):
    """The end of a job is told once."""
    monkeypatch.setattr(delivery, "LEASE_MS", 100)
    fault = place.proxy.fault(where, running(script))
    whom = {"task": "shop.done", "options": {"queue": "shop"}}
    job = await place.client.submit("Hello", model=MODEL, on_done=whom)
    await place.run(job)
    outbox = place.keys.outbox(place.keys.partition_of_id(job.id))
    assert await asyncio.to_thread(fault.struck.wait, 10)
    async with asyncio.timeout(10):
        while place.redis.zscore(outbox, job.id) is not None:
            await place.client.job(job.id).status()  # as good as any way to let the worker's loop go on
    assert place.redis.llen("shop") == 1
    place.check(job)


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("script", [scripts.TAKE, scripts.ACKNOWLEDGE], ids=lambda s: s.name)
async def test_a_script_of_the_finished_feed(place, script, where):
    """Each end comes to its consumer, and comes once."""
    ended = set()
    for n in range(3):
        job = await place.client.submit(f"Hello {n}", model=MODEL)
        ended.add(job.id)
        assert await job.cancel()
    fault = place.proxy.fault(where, running(script))
    feed = place.client.finished("group", "consumer")
    async with asyncio.timeout(10):
        told = [(await anext(feed)).job_id for _ in range(3)]
    await feed.aclose()
    assert fault.struck.is_set()
    assert (len(told), set(told)) == (3, ended)


async def test_a_doubled_message_has_no_effect(place):
    """Neither while its flight runs nor afterwards; nor a message of an earlier publication."""
    job = await place.client.submit("Hello", model=MODEL)
    flight = place.flight(job)
    stamp = int(place.redis.hget(place.keys.flight(flight), "stamp"))
    outcomes = await asyncio.gather(*(runner.run(place.runtime, flight, stamp) for _ in range(5)))
    assert sorted(outcomes) == ["leased"] * 4 + ["succeeded"]
    story = place.story(job)
    assert await runner.run(place.runtime, flight, stamp) == "done"
    assert await runner.run(place.runtime, flight, stamp - 1) == "done"
    assert place.story(job) == story
    place.check(job)


@pytest.mark.parametrize("where", CUTS)
async def test_a_doubled_message_under_cut_replies(place, where):
    """Two workers' claims of one message, both replies lost: one of them has it."""
    job = await place.client.submit("Hello", model=MODEL)
    place.proxy.fault(where, running(scripts.CLAIM), times=3)
    flight = place.flight(job)
    stamp = int(place.redis.hget(place.keys.flight(flight), "stamp"))
    outcomes = await asyncio.gather(*(runner.run(place.runtime, flight, stamp) for _ in range(3)))
    assert Counter(outcomes)["succeeded"] == 1
    place.check(job)
