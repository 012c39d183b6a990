"""The scripts and the server they run on: unknown scripts, full memory, pipelines."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

from genqueue import ledger, scripts
from genqueue.scripts import SCRIPTS
from genqueue_lab.servers import RedisServer

from .ledger_desk import POLICY, Desk
from .ledger_rounds.link import Link

STARTED = {"type": "started", "route": "r", "model": "m"}
HELLO = {"type": "delta", "text": "hello"}


def test_run_loads_a_script_the_server_does_not_know(database_url: str, desk: Desk) -> None:
    """A restarted server costs one more round trip, not an error."""
    call = ledger.submit(desk.keys, desk.submission(), desk.now)
    with redis.Redis.from_url(database_url) as client:
        client.script_flush()
        assert ledger.parse_submit(scripts.run(client, call)).status == "new"
        assert ledger.parse_submit(scripts.run(client, call)).status == "dup"


async def test_arun_loads_a_script_the_server_does_not_know(database_url: str, desk: Desk) -> None:
    """The same holds on an asyncio client."""
    call = ledger.submit(desk.keys, desk.submission(), desk.now)
    async with redis.asyncio.Redis.from_url(database_url) as client:
        await client.script_flush()
        assert ledger.parse_submit(await scripts.arun(client, call)).status == "new"


async def test_arun_many_loads_what_the_server_does_not_know(database_url: str, desk: Desk) -> None:
    """A pipeline to a server that lost its scripts returns every reply, in order."""
    flights = [desk.running(fingerprint="") for _ in range(3)]
    calls = [ledger.append(desk.keys, flight, "token-1", 1, [STARTED, HELLO]) for flight in flights]
    calls.insert(1, ledger.renew(desk.keys, flights[0], "token-1", 15_000, desk.now))
    async with redis.asyncio.Redis.from_url(database_url) as client:
        await client.script_flush()
        replies = await scripts.arun_many(client, calls)
    assert [reply[0] for reply in replies] == [b"ok"] * 4
    assert [reply[1] for reply in replies] == [2, b"normal", 2, 2]


async def test_arun_many_puts_an_error_in_its_place(database_url: str, desk: Desk) -> None:
    """One call that the server refuses takes no other call with it."""
    flight = desk.running()
    desk.link.command("SET", desk.keys.flight("3-00000000000000000000"), "no hash")
    calls = [ledger.append(desk.keys, name, "token-1", 1, [HELLO]) for name in ("3-00000000000000000000", flight)]
    async with redis.asyncio.Redis.from_url(database_url) as client:
        refused, accepted = await scripts.arun_many(client, calls)
    assert isinstance(refused, redis.ResponseError)
    assert ledger.parse_append(accepted) == ledger.Appended("ok", 1)


async def test_concurrent_pipelines_after_a_lost_script_write_once(database_url: str, desk: Desk) -> None:
    """Two writers that both find the script missing load it and add nothing twice."""
    flight = desk.running()
    call = ledger.append(desk.keys, flight, "token-1", 1, [STARTED, HELLO])
    async with redis.asyncio.Redis.from_url(database_url) as client:
        await client.script_flush()
        await asyncio.gather(*(scripts.arun_many(client, [call]) for _ in range(4)))
    assert desk.types(flight) == ["queued", "started", "delta"]


def test_an_unknown_outcome_settles_nothing(desk: Desk) -> None:
    """A call from a version that knows more outcomes is an error before anything is written."""
    flight = desk.running()
    with pytest.raises(redis.ResponseError, match="unknown outcome"):
        desk.settle(flight, "parked")  # type: ignore[arg-type]
    assert desk.settle(flight).status == "succeeded"


def test_full_memory_refuses_new_work_only(server: RedisServer, prefix: str) -> None:
    """At maxmemory a submit is refused, and what was accepted is brought to its end."""
    with RedisServer(server.binary) as full, Link(full.url()) as link:
        desk = Desk(link, prefix)
        first, second = desk.running(fingerprint=""), desk.running(fingerprint="")
        job = desk.submission()
        queued = desk.submit(job)
        link.command("CONFIG", "SET", "maxmemory", 100_000)  # less than an empty server takes
        with pytest.raises(redis.ResponseError, match=r"^OOM"):
            desk.submit(fingerprint="")
        assert isinstance(desk.claim(queued.flight, queued.stamp), ledger.Claimed)
        assert desk.append(first, 1, STARTED, HELLO).status == "ok"
        assert desk.renew(first) == "normal"
        assert desk.settle(first, first=3, result="{}").status == "succeeded"
        assert desk.leave(job.job).status == "ended"
        desk.now += 15_000
        assert [found.flight for found in desk.sweep()] == [second]
        assert desk.run(ledger.mark(desk.keys, {"generate.high": 1})) is None


def test_the_servers_clock_is_the_default(database_url: str, desk: Desk) -> None:
    """Without a moment of the caller's own the server's TIME is used, in ms."""
    with redis.Redis.from_url(database_url) as client:
        seconds, _ = client.time()
        deadline_ms = (seconds + 60) * 1000
        reply = ledger.parse_submit(
            scripts.run(client, ledger.submit(desk.keys, desk.submission(deadline_ms=deadline_ms)))
        )
    assert reply.stamp is not None
    assert 0 <= reply.stamp - seconds * 1000 < 60_000
    limit = deadline_ms - reply.stamp + POLICY.keep_ms
    assert 0 < desk.times_to_live()[desk.keys.flight(reply.flight)] <= limit


def test_every_script_is_known_by_its_own_text(database_url: str) -> None:
    """The server names each script as `genqueue.scripts` does."""
    with redis.Redis.from_url(database_url) as client:
        assert [client.script_load(script.source) for script in SCRIPTS] == [script.sha for script in SCRIPTS]
