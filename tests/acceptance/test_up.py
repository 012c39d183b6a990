"""`genqueue up` as a user has it: a deployment in one terminal that Ctrl-C ends."""

import os
import re
import signal
import socket
import time

import httpx
import pytest
from acceptance_commands import Command
from acceptance_workers import wait_until

from genqueue import Client
from genqueue_lab.servers import free_port

MODEL = "gemini-3-flash-preview"
READY = "Ctrl-C stops everything."


def test_up_serves_jobs_and_flower_and_ends_with_ctrl_c():
    """A job and Flower are served as the lines say; Ctrl-C lets the running job end, then everything, with status 0."""
    with Command("up", "--workers", "2", "--slots", "4", "--port-flower", "0") as up:
        up.read_until(READY)
        flower, user, password = re.search(
            r"^Flower: (\S+) for user (\S+) with password (\S+)$", up.output, re.MULTILINE
        ).groups()
        assert httpx.get(flower, trust_env=False).status_code == 401
        assert httpx.get(flower, auth=(user, password), trust_env=False, timeout=30).status_code == 200
        assert flower.startswith("http://127.0.0.1:")
        assert len(up.family()) == 8  # itself, server, emulator, two workers and their nurseries, Flower

        with Client(data_url=re.search(r"^  export GENQUEUE_DATA_URL=(\S+)$", up.output, re.MULTILINE)[1]) as client:
            job = client.submit("Explain HTTP/3 multiplexing.", model=MODEL, lane="high")
            types = []
            for event in job.tail(timeout=30):
                if event.text and "delta" not in types:
                    up.send(signal.SIGINT)
                types.append(event.type)
        assert types[-1] == "completed"

        assert up.finish() == 0
        assert up.traces() == []
        assert up.lines[-1] == "genqueue  | stopped"
        assert "Traceback" not in up.output
        assert _position(up, "worker-1", "Warm shutdown") < _position(up, "flower", "shutting down")
        assert _position(up, "flower", "shutting down") < _position(
            up, "server", "shutdown requested|requested shutdown"
        )


def test_a_second_ctrl_c_does_not_wait_for_the_running_job(own_server, own_emulator, client):
    """With a server and a provider given only workers are started; the first Ctrl-C drains, the second ends at once."""
    own_emulator.set(ttft=60.0)
    with Command(
        "up",
        "--no-flower",
        GENQUEUE_DATA_URL=own_server.url(),
        GENQUEUE_DRAIN_TIMEOUT="55",
        GENQUEUE_GEMINI_BASE_URL=own_emulator.url,
        GENQUEUE_GEMINI_CA_FILE=str(own_emulator.ca_file),
    ) as up:
        up.read_until(READY)
        assert len(up.family()) == 3  # itself, a worker and its nursery
        client.submit("Something long.", model=MODEL)
        own_emulator.wait(timeout=30, live_at_least=1)

        up.send(signal.SIGINT)
        up.read_until("Warm shutdown")
        began = time.monotonic()
        up.send(signal.SIGTERM)
        assert up.finish() == 0
        assert time.monotonic() - began < 15
        assert up.traces() == []
        assert "Traceback" not in up.output


def test_a_process_that_dies_ends_up_with_status_1():
    """When a worker is killed, `up` names it, shows its last lines, ends the rest and fails."""
    with Command("up", "--no-flower") as up:
        up.read_until(READY)
        worker = int(re.search(r"worker\.ready name=worker-1@\S+:(\d+) ", up.output)[1])
        assert worker in up.family()
        os.kill(worker, signal.SIGKILL)

        up.read_until("worker-1 was killed by SIGKILL; its last lines:")
        assert up.finish() == 1
        assert any(re.match(r"genqueue  \|   .*worker\.ready name=worker-1@", line) for line in up.lines), up.output
        assert up.traces() == []


def test_a_closed_terminal_and_many_ctrl_c_leave_nothing_behind():
    """SIGHUP stops like Ctrl-C; whatever comes after it, up to the last moment, the temporary directory goes too."""
    with Command("up", "--no-flower") as up:
        up.read_until(READY)
        up.send(signal.SIGHUP)
        while up.process.poll() is None:
            up.send(signal.SIGINT)
            time.sleep(0.002)
        assert up.finish() == 0
        assert up.traces() == []
        assert "Traceback" not in up.output


def test_nothing_outlives_a_killed_up():
    """SIGKILL, which `up` cannot see coming, still ends all it started."""
    with Command("up", "--no-flower") as up:
        up.read_until(READY)
        assert len(up.family()) == 5  # itself, server, emulator, worker and its nursery
        up.send(signal.SIGKILL)
        assert up.finish() == -signal.SIGKILL
        wait_until(lambda: up.family() == [], timeout=10, what="the end of every process")


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "message"),
    [
        (["--server", "/no/such/server"], {}, 1, "cannot run /no/such/server: No such file or directory"),
        ([], {"GENQUEUE_SLOTS": "many"}, 2, "GENQUEUE_SLOTS: got 'many'"),
        ([], {"GENQUEUE_VERTEX_CREDENTIALS": __file__}, 2, "GENQUEUE_VERTEX_PROJECT: not set"),
    ],
    ids=["server", "settings", "half a provider"],
)
def test_what_keeps_up_from_starting_is_told(arguments, environment, status, message):
    """A start that fails tells why, without a traceback."""
    with Command("up", *arguments, **environment) as up:
        assert up.finish() == status
        assert message in up.output
        assert "Traceback" not in up.output
        assert up.traces() == []


def test_a_configured_provider_is_asked_and_no_emulator(own_server, own_emulator):
    """Whichever it is: beside it an emulator would answer for models that the provider serves."""
    openai = {
        "GENQUEUE_OPENAI_BASE_URL": f"{own_emulator.url}/v1",
        "GENQUEUE_OPENAI_API_KEY": "test-key",
        "GENQUEUE_OPENAI_CA_FILE": str(own_emulator.ca_file),
    }
    with Command("up", "--no-flower", GENQUEUE_DATA_URL=own_server.url(), **openai) as up:
        up.read_until(READY)
        assert f"asking {own_emulator.url}/v1" in up.output
        assert "emulator  " not in up.output
        up.send(signal.SIGINT)
        assert up.finish() == 0


def test_a_port_that_is_taken_is_told_before_anything_starts():
    """Flower's, with what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Command("up", "--port-flower", str(port)) as up:
            assert up.finish() == 1
            assert up.output.startswith(f"error: port {port} for Flower is taken: choose another with --port-flower")
            assert up.traces() == []


def test_a_given_server_that_is_not_there_is_told_before_anything_starts():
    """It waits for it as a worker does; a second Ctrl-C is not needed to leave."""
    with Command("up", GENQUEUE_DATA_URL=f"redis://127.0.0.1:{free_port()}/0") as up:
        up.read_until("waiting up to 30 s for the data server at 127.0.0.1:")
        up.send(signal.SIGINT)
        assert up.finish() == 130
        assert "Traceback" not in up.output
        assert up.traces() == []


def _position(command, name, pattern):
    """Return the number of the first line of a process that matches."""
    return next(
        number
        for number, line in enumerate(command.lines)
        if line.startswith(name) and re.search(pattern, line, re.IGNORECASE)
    )
