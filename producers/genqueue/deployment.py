"""What all processes of one deployment must agree on, and the server's clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genqueue.errors import SettingsError
from genqueue.keys import SCHEMA
from genqueue.steps import Query

if TYPE_CHECKING:
    from genqueue.keys import Keys
    from genqueue.steps import Operation


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment this process has joined.

    Attributes:
        keys: its keys.
        clock_offset: seconds to add to this machine's clock to get the server's.
    """

    keys: Keys
    clock_offset: float

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        return time.time() + self.clock_offset


def join(keys: Keys) -> Operation[Deployment]:
    """Agree on the partitions and the schema, or be the first; raises SettingsError on a mismatch."""
    meta = keys.meta()
    before = time.time()
    (seconds, microseconds), known = yield Query((("TIME",), ("HMGET", meta, "partitions", "schema")))
    offset = int(seconds) + int(microseconds) / 1e6 - (before + time.time()) / 2
    if None in known:
        *_, known = yield Query(
            (
                ("HSETNX", meta, "partitions", keys.partitions),
                ("HSETNX", meta, "schema", SCHEMA),
                ("HMGET", meta, "partitions", "schema"),
            )
        )
    partitions, schema = (int(value) for value in known)
    problems = []
    if partitions != keys.partitions:
        problems.append(
            f"GENQUEUE_PARTITIONS: got {keys.partitions}, expected {partitions}, "
            f"which this deployment ({meta}) was made with"
        )
    if schema != SCHEMA:
        problems.append(f"genqueue: this version speaks schema {SCHEMA}, the deployment ({meta}) has {schema}")
    if problems:
        raise SettingsError(problems)
    return Deployment(keys, offset)
