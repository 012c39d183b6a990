"""What all processes of one deployment must agree on, and the server's clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from genqueue.errors import SettingsError
from genqueue.keys import SCHEMA
from genqueue.steps import Query

if TYPE_CHECKING:
    from genqueue.keys import Keys
    from genqueue.steps import Operation

#: Seconds after which the server's clock is read again.
REFRESH: Final = 300.0

#: Seconds by which this machine's two clocks may part until the server's is read again: one was set, or both slept.
JUMP: Final = 1.0


class Deployment:
    """A deployment this process joins, and keeps to.

    The server's time goes on by this machine's monotonic clock: setting the wall clock moves no deadline.

    Args:
        keys: its keys.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        # The server's time with what this machine's clocks showed then: monotonic and wall. Replaced as a whole, so
        # that threads need no lock; two that join at once do no harm.
        self._reading: tuple[float, float, float] | None = None
        self._doubtful = False

    def now(self) -> float:
        """Return the server's time, in seconds since 1970; the deployment must have been entered."""
        if self._reading is None:
            raise RuntimeError("the deployment was not entered: carry out enter() first")
        server, monotonic, _ = self._reading
        return server + time.monotonic() - monotonic

    def enter(self) -> Operation[None]:
        """Join if need be: at first, in doubt, when the clock was read too long ago or has jumped; raises as `join`."""
        if self._reading is not None and not self._doubtful:
            _, monotonic, wall = self._reading
            passed = time.monotonic() - monotonic
            if passed < REFRESH and abs(time.time() - wall - passed) < JUMP:
                return
        yield from self.join()

    def doubt(self) -> None:
        """Join again before the next use: the server may be another one, which knows nothing of this deployment."""
        self._doubtful = True

    def join(self) -> Operation[None]:
        """Read the server's clock and agree on partitions and schema, or be the first.

        Raises:
            SettingsError: the deployment was made with others.
        """
        meta = self.keys.meta()
        before = time.monotonic()
        (seconds, microseconds), known = yield Query((("TIME",), ("HMGET", meta, "partitions", "schema")))
        after, wall = time.monotonic(), time.time()
        server, half = int(seconds) + int(microseconds) / 1e6, (after - before) / 2
        if None in known:
            *_, known = yield Query(
                (
                    ("HSETNX", meta, "partitions", self.keys.partitions),
                    ("HSETNX", meta, "schema", SCHEMA),
                    ("HMGET", meta, "partitions", "schema"),
                )
            )
        self._compare(*(int(value) for value in known))
        self._reading, self._doubtful = (server, after - half, wall - half), False

    def _compare(self, partitions: int, schema: int) -> None:
        meta, problems = self.keys.meta(), []
        if partitions != self.keys.partitions:
            problems.append(
                f"GENQUEUE_PARTITIONS: got {self.keys.partitions}, expected {partitions}, "
                f"which this deployment ({meta}) was made with"
            )
        if schema != SCHEMA:
            problems.append(f"genqueue: this version speaks schema {SCHEMA}, the deployment ({meta}) has {schema}")
        if problems:
            raise SettingsError(problems)
