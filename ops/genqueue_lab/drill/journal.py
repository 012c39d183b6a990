"""What a server has on disk, over time: to bring it back as it would be after its machine went down."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

    from genqueue_lab.servers import RedisServer

#: Seconds between two looks at the file's length, and looks that are kept.
LOOK: Final = 0.02
KEPT: Final = 500


class Journal:
    """Follows the length of a server's append-only file; a context manager with a thread of its own.

    Attributes:
        lengths: the latest looks: monotonic seconds, the file, its length in bytes.
    """

    def __init__(self, server: RedisServer) -> None:
        self._directory = server.directory / "appendonlydir"
        self.lengths: deque[tuple[float, Path, int]] = deque(maxlen=KEPT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def forget(self, seconds: float) -> float:
        """Cut off what the file has gained in the last seconds; returns the monotonic moment it then stands for.

        For a server that does not run. Raises RuntimeError when nothing is known from before.
        """
        moment = time.monotonic() - seconds
        known = [one for one in self.lengths if one[0] <= moment]
        if not known:
            raise RuntimeError(f"the server's file was not followed for {seconds:g} s yet")
        at, file, length = known[-1]
        os.truncate(file, length)
        return at

    def _run(self) -> None:
        while not self._stop.wait(LOOK):
            files = list(self._directory.glob("*.incr.aof"))
            if len(files) == 1:  # there are two for a moment while it is rewritten
                self.lengths.append((time.monotonic(), files[0], files[0].stat().st_size))
