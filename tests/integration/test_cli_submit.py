"""`genqueue submit` as a process: what it prints, and that no accepted id is lost."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import redis
from click.testing import CliRunner

from genqueue.cli import main
from genqueue.cli.batch import TURN

COMMAND = [sys.executable, "-c", "from genqueue.cli import run; run()"]


@pytest.fixture
def environment(database_url, prefix):
    """Return the variables of a deployment of the test's own."""
    return {"GENQUEUE_DATA_URL": database_url, "GENQUEUE_KEY_PREFIX": prefix}


@pytest.fixture
def submit(environment):
    """Return a function that runs `genqueue submit` in a shell, with what is given behind it."""

    def running(rest, piped=""):
        line = f"{shlex.join(COMMAND)} submit {rest}"
        return subprocess.run(
            line,
            shell=True,
            check=False,
            env={**os.environ, **environment},
            input=piped,
            capture_output=True,
            text=True,
        )

    return running


@pytest.fixture
def jobs(environment):
    """Return a function that tells the ids of the jobs that were accepted."""

    def accepted():
        with redis.Redis.from_url(environment["GENQUEUE_DATA_URL"]) as client:
            names = client.scan_iter(match=f"{environment['GENQUEUE_KEY_PREFIX']}:*:job:*")
            return {name.decode().rpartition(":")[2] for name in names}

    return accepted


@pytest.mark.parametrize("rest", ["hi --tail >&-", "hi >/dev/full"])
def test_an_accepted_id_is_not_lost_with_stdout(submit, jobs, rest):
    """It is on stderr, with what went wrong in one line, and nothing else."""
    ended = submit(rest)
    (job_id,) = jobs()
    assert ended.returncode == 1
    told, error = ended.stderr.splitlines()
    assert told == f"job {job_id} was accepted; follow it with: genqueue tail {job_id}"
    assert error in {"error: stdout is closed", "error: No space left on device"}


LINES = [
    {"contents": "a"},
    {"contents": "b", "lane": "low", "idempotency_key": "k"},
    {"contents": "c", "temperature": 9},
]
FILE = "\n\n".join(json.dumps(line) for line in LINES)


def test_a_file_is_a_line_for_each_request(submit, jobs):
    """In order: ids, and what is wrong; the other options are the defaults of every line."""
    ended = submit("--file - --tenant acme", FILE)
    first, second, third = ended.stdout.splitlines()
    assert {first, second} == jobs()
    assert third.startswith("error: config.temperature")
    assert (ended.returncode, ended.stderr) == (1, "error: not every request of stdin was queued\n")


def test_a_file_of_good_requests_ends_well(submit, tmp_path):
    """As JSON each line says where the job is; the key gives the same job again."""
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in LINES[:2]) + "\n")
    runs = [submit(f"--file {path} --json") for _ in range(2)]
    first, second = ([json.loads(line) for line in ended.stdout.splitlines()] for ended in runs)
    assert [ended.returncode for ended in runs] == [0, 0]
    assert set(first[0]) == {"job_id", "stream_key", "leave_mark"}
    assert first[0]["job_id"] != second[0]["job_id"]
    assert first[1] == second[1]


def test_a_file_whose_stdout_is_full_names_every_job(submit, jobs):
    """On stderr."""
    ended = submit("--file - > /dev/full", FILE)
    assert jobs() <= set(ended.stderr.splitlines())
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "error: No space left on device")


@pytest.mark.parametrize(
    ("rest", "piped", "words"),
    [
        ("--file -", '{"contents": "a"}\n{"contents"', "line 2 of stdin is not JSON"),
        ("--file -", '["a"]', "line 1 of stdin is no object"),
        ("--file -", "\n", "stdin has no requests"),
        ("--file /nowhere/at.all", "", "No such file"),
        ("--file - hi", '{"contents": "a"}', "neither TEXT nor --tail"),
    ],
)
def test_a_wrong_file_queues_nothing(environment, jobs, rest, piped, words):
    """Not even its first lines."""
    ended = CliRunner(env=environment).invoke(main, ["submit", *rest.split()], input=piped)
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert jobs() == set()


@pytest.mark.parametrize("seconds", [0.05, 0.4])
def test_an_early_ctrl_c_is_silent(environment, seconds):
    """Whatever is being imported at that moment."""
    program = "from genqueue.cli import run; print(1, flush=True); run()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "submit", "hi"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()  # Python itself has started, and the next it does is to see to Ctrl-C
    time.sleep(seconds)  # a moment is what is tested
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert said == ""


def test_an_interrupted_file_has_told_what_was_queued(environment, jobs, tmp_path):
    """All of it: what is under way when Ctrl-C comes is told before the end, and how far it came."""
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps({"contents": f"number {n}"}) for n in range(20 * TURN)))
    with subprocess.Popen(
        [*COMMAND, "submit", "--file", str(path)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # communicate() would leave out what readline() has read ahead
        told, said = process.stdout.read(), process.stderr.read()
    ids = {first.strip(), *told.split()}
    assert ids == jobs()
    assert process.returncode == 130
    assert said.startswith(f"interrupted behind {len(ids)} of {20 * TURN} requests")


def test_a_file_is_given_up_with_the_server(tmp_path):
    """Soon, however long it is, with a line for each request."""
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps({"contents": f"number {n}"}) for n in range(5 * TURN)))
    began = time.monotonic()
    ended = CliRunner(env={"GENQUEUE_DATA_URL": "redis://127.0.0.1:1/0"}).invoke(main, ["submit", "--file", str(path)])
    assert time.monotonic() - began < 3.0
    assert len([line for line in ended.stdout.splitlines() if line.startswith("error: the data server")]) == 5 * TURN
