"""The `genqueue` command as a user runs it, and every process it leads to."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

#: Found again in the environment of whatever the command starts.
MARK = "GENQUEUE_TEST_MARK"


class Command:
    """One run of `genqueue` outside a terminal, with no key and no settings but those given; a context manager.

    At the end of the block it is killed if it still runs, and with it all it started.
    """

    def __init__(self, *arguments, **environment):
        self.directory = tempfile.TemporaryDirectory(prefix="genqueue-test-")
        ours = ("GENQUEUE_", "GEMINI_", "OPENAI_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from genqueue.cli import main; main(prog_name='genqueue')", *arguments],
            env={
                **inherited,
                MARK: self.directory.name,
                "TMPDIR": self.directory.name,
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []

    @property
    def output(self):
        """All that was read so far."""
        return "\n".join(self.lines)

    def read_until(self, text):
        """Read lines to the first that contains the text and return it."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return line.rstrip()
        raise AssertionError(f"{text!r} did not come:\n{self.output}")

    def send(self, number=signal.SIGINT):
        """Send a signal."""
        self.process.send_signal(number)

    def finish(self, timeout=60):
        """Read what is left and return the exit status; kills what does not end in time."""
        # Not by communicate(): with a timeout it reads past what this iterator has buffered, which would be lost.
        give_up = threading.Timer(timeout, self.process.kill)
        give_up.start()
        try:
            self.lines.extend(line.rstrip() for line in self.process.stdout)
            return self.process.wait()
        finally:
            give_up.cancel()

    def family(self):
        """Return the ids of all living processes that the command led to, itself included."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_ours(entry)]

    def traces(self):
        """Return what the command has left: living processes and temporary files."""
        return [*self.family(), *Path(self.directory.name).iterdir()]

    def _is_ours(self, process):
        try:
            # A server writes its title over its environment, but works in its data directory.
            if (process / "cwd").readlink().is_relative_to(self.directory.name):
                return True
            return f"{MARK}={self.directory.name}".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.directory.cleanup()
