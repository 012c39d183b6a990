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
        stored: the entry as it is in the server.
    """

    job: str
    deadline_ms: int
    keep_ms: int
    request: str
    stored: bytes

    @classmethod
    def of(cls, job: str, deadline_ms: int, keep_ms: int, request: str) -> Self:
        """Return a new reservation."""
        fields = {"v": 1, "job": job, "deadline_ms": deadline_ms, "keep_ms": keep_ms, "request": request}
        return cls(job, deadline_ms, keep_ms, request, encode(fields))

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
