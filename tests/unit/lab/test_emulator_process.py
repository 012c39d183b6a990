import json
import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from genqueue_lab.emulator import EmulatorProcess, Options, Pace


def run(*arguments):
    """Run the command to its end and return what it did."""
    command = [sys.executable, "-m", "genqueue_lab.emulator", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_process_starts_and_stops_cleanly():
    """SIGTERM ends it with exit code 0 and without a traceback; its certificates are removed."""
    process = EmulatorProcess(Options(pace=Pace(ttft=0, tpot=0, tokens=3))).start()
    os.kill(process.pid, 0)
    assert process.url.startswith("https://127.0.0.1:")
    assert f"export SSL_CERT_FILE={process.ca_file}" in process.log()
    assert process.stop() == 0
    assert not process.ca_file.exists()
    assert process.stop() is None
    with pytest.raises(RuntimeError, match="call start"):
        _ = process.pid


def test_ctrl_c_ends_it_cleanly(tmp_path):
    """SIGINT ends it with exit code 0 and nothing on standard error; file and output say how to reach it."""
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "genqueue_lab.emulator", "--port=0", f"--directory={tmp_path}"]
    with subprocess.Popen(
        [*command, f"--ready-file={ready}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline() for _ in range(5)]
        process.send_signal(2)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(ready.read_text())["pid"] == process.pid
    assert "export GEMINI_API_KEY=emulator\n" in lines[2]


def test_a_port_in_use_is_one_clear_line(tmp_path):
    """The command names the address and the reason and exits with 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--port", port, "--directory", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_directory_that_cannot_be_used_is_one_clear_line(tmp_path):
    """A file in the place of the directory is named."""
    (tmp_path / "file").touch()
    done = run("--port", 0, "--directory", tmp_path / "file" / "inside")
    assert (done.returncode, done.stderr) == (1, f"Error: cannot use {tmp_path}/file/inside: Not a directory\n")


def test_a_failed_start_shows_the_log():
    """The parent's error carries what the child has printed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = EmulatorProcess(Options(port=taken.getsockname()[1]))
        with pytest.raises(RuntimeError, match=r"did not start:\n.*Address already in use"):
            process.start()


def test_it_is_steered_from_the_parent(own_emulator):
    """The pace can be set for a while, wrong values are errors, and a wait that is not met says what was seen."""
    before = own_emulator.set(tokens=7)
    assert (before["ttft"], before["tokens"]) == (0.02, 40)
    with own_emulator.paced(ttft=0.5, tokens=9):
        assert own_emulator.set()["tokens"] == 9
    assert own_emulator.set()["tokens"] == 7
    with pytest.raises(ValueError, match="tokens"):
        own_emulator.set(tokens=-1)
    with pytest.raises(TimeoutError, match="'requests': 0"):
        own_emulator.wait(timeout=0.01, requests_at_least=1)
    assert own_emulator.wait(live_at_most=0)["totals"]["requests"] == 0


def test_the_parent_sees_what_the_server_saw(own_emulator):
    """Statistics count a client's connection and not those that ask for statistics."""
    trust = own_emulator.trust()
    with urllib.request.urlopen(f"{own_emulator.url}/v1beta/models?key=k", context=trust, timeout=5) as answer:
        assert answer.status == 200
    seen = own_emulator.wait(finished_at_least=1)
    assert seen["totals"]["connections"] == 1
    assert [record["path"] for record in seen["requests"]] == ["/v1beta/models"]
    own_emulator.reset_stats()
    assert own_emulator.stats(details=False)["totals"]["requests"] == 0
