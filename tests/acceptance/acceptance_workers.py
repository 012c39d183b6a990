"""Real worker processes for acceptance tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from genqueue_lab.emulator import NOBODY_ELSE

#: Module of the Celery app that workers run.
APP = "genqueue_worker.app"


def wait_until(condition, timeout=30.0, what="the condition"):
    """Return the condition's first true value; fails after `timeout` seconds."""
    give_up = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > give_up:
            raise AssertionError(f"{what} did not come about within {timeout:g} s")
        time.sleep(0.01)


class WorkerProcess:
    """One Celery worker process on a server and an emulator; ready when `start` returns."""

    def __init__(self, directory, url, emulator, *, slots=100, arguments=(), **environment):
        self.log_file = Path(directory) / f"worker-{id(self)}.log"
        self.command = [
            sys.executable, "-m", "celery", "-A", APP, "worker",
            "-c", str(slots), "-l", "INFO", "-n", f"w{id(self)}@%h", *arguments,
        ]  # fmt: skip
        self.environment = {
            **os.environ,
            **NOBODY_ELSE,
            "GENQUEUE_DATA_URL": url,
            "GENQUEUE_GEMINI_BASE_URL": emulator.url,
            "GENQUEUE_GEMINI_CA_FILE": str(emulator.ca_file),
            "GENQUEUE_GEMINI_API_KEY": "test-key",
            "PYTHONUNBUFFERED": "1",
            **{name: str(value) for name, value in environment.items()},
        }
        self.process = None

    @property
    def pid(self):
        """Process id."""
        return self.process.pid

    def log(self):
        """Return what the worker has logged."""
        return self.log_file.read_text(errors="replace")

    def start(self, *, ready=True):
        """Start the process; wait until it consumes unless told otherwise."""
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self):
        """Return once the worker consumes; fails with its log when it ends before."""

        def ready():
            assert self.process.poll() is None, self.log()
            return " ready." in self.log()

        wait_until(ready, what="the worker's start")

    def kill(self):
        """End the process with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=40):
        """Send SIGTERM and return the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
