"""Connections to a server that is there, away, mute or busy: what operations are told, and when."""

import asyncio
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from genqueue.connections import AsyncConnection, BlockingConnection
from genqueue.connections.server import COMMANDS
from genqueue.errors import ServerUnavailable, SubmitUncertain
from genqueue.scripts import APPEND, Call, Script
from genqueue.settings import Settings
from genqueue.steps import Query, Run, RunMany
from genqueue_lab.fault_proxy import FaultProxy
from genqueue_lab.servers import RedisServer, free_port

from .client_sides import CLIENTS


class LoopedConnection:
    """The asyncio connection under the blocking one's names, a fresh loop for every operation."""

    def __init__(self, settings):
        self._connection = AsyncConnection(settings)

    def run(self, operation):
        """Carry an operation out and disconnect."""

        async def whole():
            try:
                return await self._connection.run(operation)
            finally:
                await self._connection.aclose()

        return asyncio.run(whole())

    def close(self):
        """Do nothing: it is closed."""


@pytest.fixture(params=[BlockingConnection, LoopedConnection])
def connect(request):
    """Make connections of one kind and then of the other."""

    def make(url):
        made = request.param(Settings(data_url=url, broker_url="memory://", connect_timeout=0.3, command_timeout=0.4))
        request.addfinalizer(made.close)
        return made

    return make


def ask(*commands):
    """Send commands."""
    return (yield Query(commands))


def run(call):
    """Run a script."""
    return (yield Run(call))


def run_many(*calls):
    """Run scripts."""
    return (yield RunMany(calls))


@pytest.fixture
def mute():
    """Return the port of a server that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("kind", ["nobody", "mute"])
def test_what_was_never_connected_was_never_sent(connect, mute, scheme, kind):
    """Neither where nobody listens nor where nobody answers, with TLS and without."""
    port = mute if kind == "mute" else free_port()
    with pytest.raises(ServerUnavailable) as raised:
        connect(f"{scheme}://127.0.0.1:{port}/0").run(ask(("PING",)))
    assert not raised.value.sent


def test_a_unix_socket_is_a_server_too(connect, tmp_path):
    """And one that is not there was never sent anything."""
    path = tmp_path / "s"
    with pytest.raises(ServerUnavailable) as raised:
        connect(f"unix://{path}").run(ask(("PING",)))
    assert not raised.value.sent
    with RedisServer(config={"unixsocket": str(path)}):
        assert connect(f"unix://{path}?db=3").run(ask(("PING",))) == [True]


def test_what_the_server_refuses_was_not_done(connect, database_url):
    """Its answer says so."""
    with pytest.raises(ServerUnavailable) as raised:
        connect(database_url).run(ask(("HSET", "key")))
    assert not raised.value.sent


@pytest.mark.parametrize("where", ["before", "after", "inside", "stall"])
def test_what_was_sent_may_have_been_done(connect, database_url, server, where):
    """However the reply was lost."""
    with FaultProxy(server.port) as proxy:
        proxy.fault(where, lambda command: command[0] == b"INCR")
        connection = connect(proxy.url(int(database_url.rpartition("/")[2])))
        with pytest.raises(ServerUnavailable) as raised:
            connection.run(ask(("INCR", "n")))
    assert raised.value.sent


def test_many_scripts_run_in_one_round_trip(connect, database_url):
    """Those the server did not know are given to it; those that fail have their error in their place."""
    fresh = Script.of("fresh", f"return {time.monotonic_ns()} + ARGV[1]")
    calls = [Call(fresh, ("k",), (0,)), Call(APPEND, ("p:",), ()), Call(fresh, ("k",), (1,))]
    first, failed, second = connect(database_url).run(run_many(*calls))
    assert second == first + 1
    assert isinstance(failed, redis.ResponseError)
    assert connect(database_url).run(run(calls[0])) == first


def test_something_may_be_done_while_scripts_run(connect, database_url):
    """It is called once they are sent: here, to see them done."""
    fresh = Script.of("fresh", "return redis.call('INCR', KEYS[1])")
    seen = []

    def look():
        with redis.Redis.from_url(database_url) as other:
            give_up = time.monotonic() + 10
            while other.get("k") != b"2" and time.monotonic() < give_up:
                pass
            seen.append(other.get("k"))

    def counting():
        yield RunMany((Call(fresh, ("other",), ()),))
        return (yield RunMany((Call(fresh, ("k",), ()),) * 2, look))

    assert connect(database_url).run(counting()) == [1, 2]
    assert seen == [b"2"]


def test_what_fails_meanwhile_leaves_no_replies_to_others(connect, database_url):
    """The connection they would come on is given up."""
    fresh = Script.of("fresh", "return ARGV[1]")

    def failing():
        raise ZeroDivisionError

    def asking():
        yield RunMany((Call(fresh, ("k",), ("stale",)),), failing)

    connection = connect(database_url)
    with pytest.raises(ZeroDivisionError):
        connection.run(asking())
    assert connection.run(run_many(Call(fresh, ("k",), ("new",)))) == [b"new"]


@pytest.mark.parametrize("others", [0, 1])
def test_what_could_not_be_repeated_leaves_the_others_done(connect, server, database_url, prefix, others):
    """A script that cannot be given to the server was certainly not run; in a batch with one that was, it may be."""
    known, fresh = (Script.of(name, f"return '{name} {time.monotonic_ns()}'") for name in ("known", "fresh"))
    with redis.Redis.from_url(database_url) as admin:
        admin.script_load(known.source)
        admin.execute_command("ACL", "SETUSER", prefix, "on", ">word", "~*", "+@all", "-script")
        url = database_url.replace("//", f"//{prefix}:word@")
        with pytest.raises(ServerUnavailable, match="no permissions") as raised:
            connect(url).run(run_many(*[Call(known, ("k",), ())] * others, Call(fresh, ("k",), ())))
        admin.execute_command("ACL", "DELUSER", prefix)
    assert raised.value.sent == bool(others)


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_server_that_hangs_costs_many_what_it_costs_one(own_server, kind, request):
    """Those who submit at once do not wait behind each other, though they share a few connections: five for each."""
    client = CLIENTS[kind](data_url=own_server.url(), broker_url="memory://")
    request.addfinalizer(client.close)
    client.submit("What?", model="m")
    own_server.kill(signal.SIGSTOP)

    def submit(number):
        began = time.monotonic()
        with pytest.raises((ServerUnavailable, SubmitUncertain)):
            client.submit(str(number), model="m")
        return time.monotonic() - began

    try:
        alone = submit("alone")
        with ThreadPoolExecutor(5 * COMMANDS) as pool:
            assert max(pool.map(submit, range(5 * COMMANDS))) < 2 * alone
    finally:
        own_server.kill(signal.SIGCONT)


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_burst_on_a_healthy_server_is_worked_off_on_few_connections(own_server, kind, request):
    """Nobody is refused for having waited."""
    client = CLIENTS[kind](data_url=own_server.url(), broker_url="memory://")
    request.addfinalizer(client.close)
    start = threading.Barrier(4 * COMMANDS)

    def submit(number):
        start.wait(20)
        return client.submit(str(number), model="m").id

    with ThreadPoolExecutor(4 * COMMANDS) as pool, redis.Redis.from_url(own_server.url()) as watching:
        assert len(set(pool.map(submit, range(4 * COMMANDS)))) == 4 * COMMANDS
        assert watching.info("stats")["total_connections_received"] <= COMMANDS + 3
