"""What every test may ask for: a real server, a fresh database, a fresh key prefix."""

import itertools
import os
import secrets
import signal

import pytest
import redis as redis_package

from genqueue_lab.servers import RedisServer

# A shell has Ctrl-C ignored in what it runs in the background, and every process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A key of whoever runs the tests is not meant for them.
for name in [name for name in os.environ if name.startswith(("GEMINI_", "OPENAI_", "GOOGLE_"))]:
    del os.environ[name]

#: The server under test: a binary's name or path, or the embedded Valkey when unset.
SERVER = os.environ.get("GENQUEUE_TEST_SERVER")


@pytest.fixture(scope="session")
def server():
    """One server for the whole session; a test takes its own prefix or database on it.

    It waits for no disk, which on a busy machine may take longer than a client waits for it.
    """
    with RedisServer(SERVER, config={"appendfsync": "no"}) as running:
        yield running


@pytest.fixture
def own_server():
    """Make a server of the test's own, for tests that stop it or run workers on it."""
    with RedisServer(SERVER) as running:
        yield running


_databases = itertools.count(1)


@pytest.fixture
def database_url(server):
    """URL of a database nobody else uses at this moment, emptied before."""
    url = server.url(next(_databases) % 64)
    with redis_package.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def prefix():
    """Return a key prefix of the test's own."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def emulator():
    """One quick Gemini emulator for the whole session, in a process of its own."""
    with _quick_emulator() as running:
        yield running


@pytest.fixture
def own_emulator():
    """Make a quick Gemini emulator of the test's own, for tests that count or stop."""
    with _quick_emulator() as running:
        yield running


def _quick_emulator():
    # Here, not above: the SDK's tests run without the extras too (make test-oldest).
    from genqueue_lab.emulator import EmulatorProcess, Options, Pace

    return EmulatorProcess(Options(pace=Pace(ttft=0.02, tpot=0.002)))
