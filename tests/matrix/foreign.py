"""The readers of ops/examples as child processes."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXAMPLES = Path(__file__).parents[2] / "ops" / "examples"

#: Exit codes of all readers.
ENDED, GONE, GAVE_UP = 0, 3, 4

#: Seconds behind a deadline that no stream has outlived, whatever moment it says.
FOR_EVER = 10**10


def build(folder: Path) -> dict[str, list[str]]:
    """Return the command of each reader; a tool that is not on the machine is an error.

    Args:
        folder: where the Go program and the compiler's cache may go.
    """
    program = folder / "reader"
    environment = {**os.environ, "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod"}
    subprocess.run(
        ["go", "build", "-o", str(program), str(EXAMPLES / "reader.go")], check=True, env=environment, cwd=folder
    )
    for tool in ("redis-cli", "jq", "node"):
        subprocess.run([tool, "--version"], check=True, capture_output=True)
    return {
        "redis-cli": ["bash", str(EXAMPLES / "reader.sh")],
        "node": ["node", str(EXAMPLES / "reader.mjs")],
        "go": [str(program)],
    }


class ForeignReader:
    """One process and what it has printed.

    Attributes:
        lines: its events, each as {"stream", "id", "type", "fields"}.
    """

    def __init__(self, command: Sequence[str], url: str, patience: int = FOR_EVER) -> None:
        self.lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "REDIS_URL": url, "READER_PATIENCE": str(patience)},
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def _listen(self, output: IO[bytes]) -> None:
        for line in output:
            with self._news:
                self.lines.append(json.loads(line))
                self._news.notify()
        with self._news:
            self._ended = True
            self._news.notify()

    def ask(self, stream: str, after: str, mark: str) -> None:
        """Have it follow one more stream."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{stream} {after} {mark}\n".encode())
        self._process.stdin.flush()

    def has(self, entry: str) -> bool:
        """Return whether it has printed the event of an entry."""
        return any(line["id"] == entry for line in self.lines)

    def wait_for(self, ready: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until its lines are as wanted."""
        with self._news:
            assert self._news.wait_for(lambda: ready() or self._ended, seconds), self.lines[-1:]
            assert ready(), f"ended behind {self.lines[-1:]}"

    def finish(self, seconds: float = 120) -> int:
        """Tell it that no more streams come, and return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(seconds)
        self._listener.join()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, wherever it is."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
