"""What an idempotency key stands for: one job, with the deadline it was first given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from genqueue import scripts
from genqueue.fingerprint import encode
from genqueue.scripts import Call


@dataclass(frozen=True, slots=True)
class Reservation:
    """The one job that every submit under a key submits.

    Attributes:
        job: its id.
        deadline_ms: its deadline; a submit that comes later is refused, so nobody starts it anew.
        keep_ms: how long behind its deadline the job is known at least.
        request: fingerprint of what was asked, and of who shares it.
        entry: the entry as it is in the server; None for one that is not there yet.
    """

    job: str
    deadline_ms: int
    keep_ms: int
    request: str
    entry: bytes | None = None

    @property
    def stored(self) -> bytes:
        """The entry as it is in the server, or is to be."""
        if self.entry is not None:
            return self.entry
        fields = {"job": self.job, "deadline_ms": self.deadline_ms, "keep_ms": self.keep_ms, "request": self.request}
        return encode({"v": 1, **fields})

    @classmethod
    def parse(cls, stored: Any) -> Self:
        """Return the reservation of an entry in the server."""
        fields = json.loads(stored)
        return cls(fields["job"], fields["deadline_ms"], fields["keep_ms"], fields["request"], stored)


def reserve(name: str, wanted: Reservation, ttl_ms: int, replaced: Reservation | None = None) -> Call:
    """Return the call that reserves an idempotency key; its reply is the entry in force.

    Args:
        name: the key, as `keys.idempotency` spells it.
        wanted: the reservation to make.
        ttl_ms: how long it holds.
        replaced: one that may be replaced.
    """
    return Call(scripts.RESERVE, (name,), (wanted.stored, ttl_ms, b"" if replaced is None else replaced.stored))
