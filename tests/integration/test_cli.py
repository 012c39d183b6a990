"""The commands against a real server, a worker started by `genqueue worker`, and the emulator."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import redis
from click.testing import CliRunner

from genqueue.cli import main
from genqueue.patience import Patience
from genqueue_lab.emulator import EmulatorProcess, Options, Pace
from genqueue_lab.servers import RedisServer, free_port

COMMAND = [sys.executable, "-c", "from genqueue.cli import main; main(prog_name='genqueue')"]
#: Seconds a process may take to say or do what is waited for.
PATIENCE = 30.0


class Worker:
    """A `genqueue worker` process; made when it is ready."""

    def __init__(self, environment, log_file, *arguments):
        self._log_file = log_file
        with log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "worker", *arguments],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for(" ready.")

    @property
    def log(self):
        """All it has printed."""
        return self._log_file.read_text(errors="replace")

    def wait_for(self, words):
        """Return once it has printed some words."""
        give_up = time.monotonic() + PATIENCE
        while words not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < give_up, self.log
            time.sleep(0.01)

    def stop(self, *numbers):
        """Send signals and return the exit status."""
        for number in numbers:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def wait_for_reader(url):
    """Return once somebody listens for events."""
    give_up = time.monotonic() + PATIENCE
    with redis.Redis.from_url(url) as client:
        while not client.pubsub_channels("*:bell:*"):
            assert time.monotonic() < give_up
            time.sleep(0.01)


@pytest.fixture(scope="module")
def environment(emulator):
    """Return the variables of a deployment with a server of this module's own."""
    with RedisServer(config={"maxmemory": "1gb"}) as running:
        yield {
            "GENQUEUE_DATA_URL": running.url(),
            "GENQUEUE_GEMINI_BASE_URL": emulator.url,
            "GENQUEUE_GEMINI_CA_FILE": str(emulator.ca_file),
            "GENQUEUE_GEMINI_API_KEY": "test-key",
        }


@pytest.fixture(scope="module")
def worker(environment, tmp_path_factory):
    """Start one worker for this module; Ctrl-C ends it well."""
    running = Worker(environment, tmp_path_factory.mktemp("worker") / "log", "--name", "cli", "--slots", "20")
    yield running
    assert running.stop(signal.SIGINT) == 0, running.log
    assert "Traceback" not in running.log


@pytest.fixture
def genqueue(environment, worker):
    """Run commands in this process, where a worker answers."""

    def invoke(*arguments, piped=None):
        return CliRunner(env=environment).invoke(main, arguments, input=piped)

    return invoke


@pytest.fixture
def unserved(environment, prefix):
    """Return the variables of a deployment whose jobs nobody works on."""
    with RedisServer() as running:
        yield environment | {"GENQUEUE_DATA_URL": running.url(), "GENQUEUE_KEY_PREFIX": prefix}


def test_submit_then_come_back(genqueue):
    """The id alone is printed, and status, result and tail know the job."""
    job_id = genqueue("submit", "Why is the sky blue?", "--lane", "high", "--tenant", "acme").stdout.strip()
    answer = json.loads(genqueue("result", job_id, "--timeout", "20", "--json").stdout)
    assert answer["job_id"] == job_id
    assert answer["finish_reason"] == "STOP"
    assert genqueue("result", job_id).stdout == answer["text"] + "\n"
    assert genqueue("tail", job_id).stdout == answer["text"] + "\n"
    found = json.loads(genqueue("status", job_id, "--json").stdout)
    assert (found["state"], found["lane"], found["tenant"]) == ("succeeded", "high", "acme")
    assert "state     succeeded" in genqueue("status", job_id).stdout


def test_submit_and_tail(genqueue):
    """Stdout is the answer, stderr one line of facts; the second time they are the cache's."""
    first = genqueue("submit", "Tell me of tides.", "--tail", "--temperature", "0")
    second = genqueue("submit", "--tail", "--temperature", "0", piped="Tell me of tides.\n")
    assert first.exit_code == second.exit_code == 0
    assert len(first.stdout.split()) > 10
    assert second.stdout == first.stdout
    assert first.stderr.startswith("[source live, TTFT 0.")
    assert first.stderr.endswith("40 tokens, finish STOP]\n")
    assert second.stderr.startswith("[source cache, TTFT 0.")


def test_tail_in_json_and_from_the_middle(genqueue):
    """Each line is an event; resuming behind one gives those that follow it."""
    lines = genqueue("submit", "Count.", "--tail", "--json", "--config", '{"top_p": 0.5}').stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [events[0]["type"], events[1]["type"], events[-1]["type"]] == ["queued", "started", "completed"]
    job_id, middle = events[0]["job_id"], events[len(events) // 2]["id"]
    resumed = genqueue("tail", job_id, "--after", middle, "--json").stdout.splitlines()
    assert resumed == lines[len(events) // 2 + 1 :]
    ended = genqueue("tail", job_id, "--after", events[-1]["id"])
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert "had ended" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["submit", "x", "--model", "no-such-model", "--tail"], 1, "NOT_FOUND"),
        (["status", "1-00000000000000000000"], 1, "no job"),
        (["result", "nonsense"], 2, "job_id"),
        (["tail", "1-00000000000000000000", "--after", "nonsense"], 2, "after"),
    ],
)
def test_failures_are_one_line(genqueue, arguments, status, words):
    """On stderr, with a status that tells misuse from failure."""
    ended = genqueue(*arguments)
    assert ended.exit_code == status
    assert ended.stderr.startswith("error: ")
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_cancel(unserved):
    """A cancelled job ends its readers with an error, and cannot be cancelled twice."""

    def genqueue(*arguments):
        return CliRunner(env=unserved).invoke(main, arguments)

    job_id = json.loads(genqueue("submit", "x", "--json").stdout)["job_id"]
    assert genqueue("result", job_id, "--timeout", "0.01").exit_code == 1
    assert genqueue("cancel", job_id).stdout == f"cancelled {job_id}\n"
    assert json.loads(genqueue("cancel", job_id, "--json").stdout) == {"job_id": job_id, "cancelled": False}
    ended = genqueue("tail", job_id)
    assert ended.exit_code == 1
    assert ended.stderr == f"error: job {job_id} was cancelled\n"


def test_ctrl_c_leaves_the_job_alone(unserved):
    """The reader says how to resume and exits 130 without a traceback; the job waits on."""
    with subprocess.Popen(
        [*COMMAND, "submit", "x", "--tail", "--json"],
        env={**os.environ, **unserved},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as reader:
        event = json.loads(reader.stdout.readline())
        wait_for_reader(unserved["GENQUEUE_DATA_URL"])
        reader.send_signal(signal.SIGINT)
        _, said = reader.communicate(timeout=PATIENCE)
    assert reader.returncode == 130
    job_id = event["job_id"]
    assert said == f"\nstopped reading; the job goes on. Resume with: genqueue tail {job_id} --after {event['id']}\n"
    status = CliRunner(env=unserved).invoke(main, ["status", job_id, "--json"])
    assert json.loads(status.stdout)["state"] == "queued"


def test_a_reader_that_goes_away_is_no_error(genqueue, environment):
    """`| head -1` gets its line, and nothing is complained about."""
    job_id = genqueue("submit", "Many words.").stdout.strip()
    genqueue("result", job_id, "--timeout", "20")
    line = f'"$0" -c "$1" tail {job_id} --json | head -1'
    shell = ["bash", "-c", line, sys.executable, COMMAND[-1]]
    ended = subprocess.run(
        shell, env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert json.loads(ended.stdout)["type"] == "queued"
    assert ended.stderr == ""


def test_the_worker_greets_and_does_not_scold(worker):
    """One line says what it serves; running as root, or the HTTP client, adds no noise."""
    first = worker.log.splitlines()[0]
    assert first.startswith("cli-")
    assert first.endswith("lanes high,normal,low, 20 slots; Ctrl-C stops it")
    assert "Warning" not in worker.log
    assert "HTTP Request" not in worker.log


def test_the_doctor_finds_nothing_wrong(genqueue):
    """Every row of a whole deployment is ok, and without a terminal the table has no colours."""
    ended = genqueue("doctor")
    assert ended.exit_code == 0
    assert {line.split()[0] for line in ended.stdout.splitlines()} == {"ok"}
    assert "1: cli-" in ended.stdout


def test_a_second_ctrl_c_does_not_wait_for_running_work(unserved, tmp_path):
    """The first drains, the second ends at once with a status that is not 0."""
    with EmulatorProcess(Options(pace=Pace(ttft=0.01, tpot=5))) as slow:
        environment = unserved | {"GENQUEUE_GEMINI_BASE_URL": slow.url, "GENQUEUE_GEMINI_CA_FILE": str(slow.ca_file)}
        worker = Worker(environment, tmp_path / "log", "--drain", "60", "--lanes", "high")
        CliRunner(env=environment).invoke(main, ["submit", "x", "--lane", "high"])
        slow.wait(PATIENCE, live_at_least=1)
        worker.process.send_signal(signal.SIGINT)
        worker.wait_for("Warm shutdown")
        began = time.monotonic()
        assert worker.stop(signal.SIGINT) == 1
        assert time.monotonic() - began < 10
        assert "outcome=interrupted" in worker.log


def test_a_broker_that_stays_away_is_one_error(environment, monkeypatch):
    """It is named apart from the data server."""
    monkeypatch.setattr("genqueue_worker.cli.START_PATIENCE", Patience(reconnect=0.01))
    port = free_port()
    away = environment | {"GENQUEUE_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
    ended = CliRunner(env=away).invoke(main, ["worker"])
    assert ended.exit_code == 1
    assert f"error: the broker at 127.0.0.1:{port}/0 is not available" in ended.stderr


def test_a_reader_says_when_the_server_goes_away_and_is_back(environment, prefix):
    """One line each on stderr, where there was silence for as long as the patience lasts."""
    with RedisServer(config={"appendfsync": "always"}) as own:
        variables = environment | {"GENQUEUE_DATA_URL": own.url(), "GENQUEUE_KEY_PREFIX": prefix}
        job_id = CliRunner(env=variables).invoke(main, ["submit", "x"]).stdout.strip()
        with subprocess.Popen(
            [*COMMAND, "tail", job_id, "--json"],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as reader:
            assert json.loads(reader.stdout.readline())["type"] == "queued"
            own.kill()
            assert reader.stderr.readline() == "[the data server is away; trying again]\n"
            own.start()
            assert reader.stderr.readline() == "[the data server is back]\n"
            CliRunner(env=variables).invoke(main, ["cancel", job_id])
            rest, said = reader.communicate(timeout=PATIENCE)
    assert json.loads(rest)["type"] == "cancelled"
    assert said == f"error: job {job_id} was cancelled\n"
