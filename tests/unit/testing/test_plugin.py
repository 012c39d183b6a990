"""The pytest plugin, as a user's tests have it: pytest in a process of its own."""

import subprocess
import sys
from importlib.metadata import entry_points

#: A user's tests; pytest runs them without any configuration of ours.
TESTS = """
from genqueue import Client


def test_blocking(genqueue_client):
    genqueue_client.script(["Hello", " world"])
    assert genqueue_client.submit("Greet me.", model="any").text() == "Hello world"
    assert [request.prompt for request in genqueue_client.requests] == ["Greet me."]


def test_clients_begin_empty(genqueue_client):
    assert genqueue_client.requests == []


async def test_asyncio(genqueue_async_client):
    genqueue_async_client.script("Hello")
    job = await genqueue_async_client.submit("Greet me.", model="any")
    assert [event.type async for event in job.tail()] == ["queued", "started", "delta", "completed"]


def test_real(genqueue_worker, genqueue_server, genqueue_emulator):
    with Client(data_url=genqueue_server.url()) as client:
        assert client.submit("Hello?", model="gemini-2.5-flash").result(timeout=30).usage.output_tokens > 0
    assert genqueue_emulator.stats()["totals"]["finished"] >= 1
"""


def pytest_run(directory, *arguments):
    """Run pytest where it finds nothing but the plugin."""
    registered = any(point.name == "genqueue" for point in entry_points(group="pytest11"))
    plugin = () if registered else ("-p", "genqueue.testing.plugin")
    options = ("-W", "error", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    command = [sys.executable, "-m", "pytest", "-q", *plugin, *options, *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=100)


def test_a_users_tests_have_the_fixtures(tmp_path):
    """Clients in memory, a server, an emulator and a worker between them, all ended at the end."""
    (tmp_path / "test_mine.py").write_text(TESTS)
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_plugin_is_light():
    """Who has genqueue installed and does not test with it pays nothing."""
    code = "import sys, genqueue.testing.plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "genqueue.testing.plugin" in loaded
    assert not {"genqueue.client", "celery", "pydantic", "redis", "fakeredis"} & set(loaded)
