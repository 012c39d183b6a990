"""One attempt at a flight: its token, and the entries on their way into the stream."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genqueue_worker.outcome import Unsent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from genqueue.lanes import Lane
    from genqueue.ledger import Claimed, Entry


def new_token() -> str:
    """Return a token nobody else has."""
    return secrets.token_hex(12)


def new_run() -> str:
    """Return what readers tell a claim by: unlike its number, a server that crashed never gives it again."""
    return secrets.token_hex(4)


@dataclass(slots=True, eq=False)
class Attempt:
    """A granted claim.

    Every entry is kept to the end, so that any can be sent again: the ledger skips what it has, and tells from where
    to begin when a server came back with less than it had confirmed.

    Attributes:
        flight: id of the flight.
        token: whoever holds the flight's current one may write.
        facts: what the claim told, but for the request.
        lane: the flight's lane now; a join may raise it.
        task: the asyncio task that runs the attempt.
        written: entries known to be in the stream.
        refused: whether the ledger, or a call-off, has told that the token is void.
        settling: whether its end is being settled; nothing else is sent any more.
        stored: the request as it is stored, until it is taken to be sent: a large one must not stay.
        blob_folders: tenants in whose folders the flight has blobs.
    """

    flight: str
    token: str
    facts: Claimed
    lane: Lane
    task: asyncio.Task[object]
    written: int = 0
    refused: bool = False
    settling: bool = False
    stored: bytes = b""
    blob_folders: set[str] = field(default_factory=set)
    _entries: list[Entry] = field(default_factory=list)

    def add(self, entries: Sequence[Entry]) -> None:
        """Number further entries."""
        self._entries.extend(entries)

    @property
    def behind(self) -> bool:
        """Whether there are entries that the stream is not known to have."""
        return self.written < len(self._entries)

    def unsent(self) -> Unsent:
        """Return the entries to send, and their numbers."""
        return Unsent(self.flight, self.token, self.written + 1, self._entries[self.written :])

    def drop(self) -> None:
        """Forget the entries that are not written: nobody may write them any more."""
        del self._entries[self.written :]

    def refuse(self) -> None:
        """Stop the attempt: its token is void, so nothing it writes counts any more."""
        if not self.refused and not self.settling:
            self.refused = True
            self.task.cancel(msg="refused")


class Clock:
    """When things happened in one attempt, in seconds.

    Attributes:
        ttft: from the claim to the first entry with content; 0 before there is one.
    """

    def __init__(self, attempt: Attempt) -> None:
        facts = attempt.facts
        self.ttft = 0.0
        self._queued = max(0, facts.claimed_ms - facts.created_ms) / 1000
        self._started = time.monotonic()

    def first_entry(self) -> None:
        """Note that content came."""
        if not self.ttft:
            self.ttft = time.monotonic() - self._started

    def timings(self) -> dict[str, float]:
        """Return "queued" (submit to claim), "ttft" (claim to first token) and "total" (submit to now)."""
        total = self._queued + time.monotonic() - self._started
        return {"queued": round(self._queued, 4), "ttft": round(self.ttft, 4), "total": round(total, 4)}
