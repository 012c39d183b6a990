"""Hosts: real processes of other people's services, with requests on the loopback interface."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_workers import WorkerProcess, wait_until

from genqueue.keys import Keys
from genqueue_lab.servers import free_port

from ..client_sides import HandWorker  # noqa: TID252 - tests are no package to name

#: Where the hosts' own modules are.
HOSTS = Path(__file__).with_name("hosts")
EXAMPLES = Path(__file__).parents[3] / "ops" / "examples"


class Host:
    """One process of somebody's service.

    Attributes:
        url: where it answers.
    """

    def __init__(self, directory, command, environment, port):
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = directory / f"host-{port}.log"
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=HOSTS, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def log(self):
        """Return what the process has printed."""
        return self.log_file.read_text(errors="replace")

    def wait_for(self, text):
        """Return once the process has printed a text."""

        def printed():
            running = self.process.poll() is None
            assert text in self.log() or running, self.log()
            return text in self.log()

        wait_until(printed, what=text)

    def stop(self, timeout=20):
        """Ask it to end and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self):
        """End it and all it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def settings(database_url, prefix):
    """Settings of a deployment of the test's own."""
    return {"data_url": database_url, "key_prefix": prefix}


@pytest.fixture
def make_worker():
    """Make workers that do what they are told, of deployments by their settings."""
    made = []

    def make(settings):
        made.append(HandWorker(settings["data_url"], Keys(settings["key_prefix"])))
        return made[-1]

    yield make
    for worker in made:
        worker.redis.close()


@pytest.fixture
def worker(make_worker, settings):
    """A worker of the test's own deployment that does what it is told."""
    return make_worker(settings)


@pytest.fixture
def start_host(tmp_path, settings):
    """Start services of the test's own deployment; `{port}` in a command is theirs. What runs at the end is killed."""
    started = []

    def start(*command, ready, **environment):
        port = free_port()
        host = Host(
            tmp_path,
            [sys.executable, *(part.format(port=port) for part in command)],
            {
                **os.environ,
                "GENQUEUE_DATA_URL": settings["data_url"],
                "GENQUEUE_KEY_PREFIX": settings["key_prefix"],
                "PYTHONPATH": str(EXAMPLES),
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            port,
        )
        started.append(host)
        host.wait_for(ready)
        return host

    yield start
    for host in started:
        host.kill()


@pytest.fixture
def start_worker(tmp_path):
    """Start workers of the fleet; all are ended afterwards."""
    started = []

    def start(url, emulator, *arguments, ready=True, **options):
        arguments = ("--without-mingle", "--without-gossip", *arguments)
        worker = WorkerProcess(tmp_path, url, emulator, arguments=arguments, **options)
        started.append(worker)
        return worker.start(ready=ready)

    yield start
    for worker in started:
        if worker.process is not None and worker.process.poll() is None:
            worker.kill()
