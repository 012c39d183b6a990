"""Items of `submit_many` on their way in: taken from their iterable a little ahead, in batches of bounded size."""

from __future__ import annotations

import time
from collections import deque
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import InvalidRequest
from genqueue.intake import Candidate
from genqueue.order import order_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genqueue.intake import Intake

#: Most orders, and most bytes of requests unless a single one has more, that go in one round trip.
BATCH_COUNT: Final = 250
BATCH_BYTES: Final = 1024 * 1024

#: Most items that are taken ahead, and most bytes of them; and seconds that this may take: what has come by then goes.
AHEAD_COUNT: Final = 1000
AHEAD_BYTES: Final = 2 * BATCH_BYTES
AHEAD_SECONDS: Final = 0.05

#: Counted for any value of an item, and for one of unknown size, such as google-genai's objects, in bytes.
_OVERHEAD: Final = 50
_UNKNOWN: Final = 16 * 1024


class Arrivals:
    """Makes batches of candidates out of items.

    Args:
        items: mappings of `submit`'s arguments.
        defaults: arguments of the items that do not have them.
        intake: what it takes to submit.
    """

    def __init__(self, items: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any], intake: Intake) -> None:
        self._items = iter(items)
        self._defaults = defaults
        self._intake = intake
        self._taken: deque[Any] = deque()
        self._overflow: Candidate | None = None
        self._ahead: list[Candidate | InvalidRequest] = []
        self._failure: Exception | None = None

    def batch(self) -> list[Candidate | InvalidRequest]:
        """Return the next items as candidates, or as what is wrong with them; none at the end."""
        if self._failure is not None:
            raise self._failure
        batch, self._ahead = self._ahead, []
        if not batch:
            if not self._taken and self._overflow is None:
                self._take()
            batch = self._made()
        return batch

    def look_ahead(self) -> None:
        """Make the next batch of the items already taken: whoever calls waits for a server, and not for who makes them.

        Never fails: what goes wrong is raised with the batch.
        """
        try:
            self._ahead = self._made()
        except Exception as error:  # noqa: BLE001 - a mapping of the caller's own may raise anything
            self._failure = error

    def _take(self) -> None:
        size, until = 0, time.monotonic() + AHEAD_SECONDS
        for item in self._items:
            self._taken.append(item)
            size += _size(item)
            if len(self._taken) >= AHEAD_COUNT or size >= AHEAD_BYTES or time.monotonic() >= until:
                return

    def _made(self) -> list[Candidate | InvalidRequest]:
        batch: list[Candidate | InvalidRequest] = []
        size = 0
        if self._overflow is not None:
            batch, size, self._overflow = [self._overflow], len(self._overflow.stored.document), None
        while self._taken and len(batch) < BATCH_COUNT:
            candidate = self._candidate(self._taken.popleft())
            if isinstance(candidate, Candidate):
                size += len(candidate.stored.document)
                if batch and size > BATCH_BYTES:
                    self._overflow = candidate
                    break
            batch.append(candidate)
        return batch

    def _candidate(self, item: object) -> Candidate | InvalidRequest:
        try:
            return Candidate(order_of(item, self._defaults), self._intake)
        except InvalidRequest as error:
            return error


def _size(value: object) -> int:
    """Return about how many bytes a value takes, as far as that matters: it may be deep, or within itself."""
    size, inside = 0, [value]
    while inside and size < AHEAD_BYTES:
        value = inside.pop()
        size += _OVERHEAD
        if isinstance(value, (str, bytes)):
            size += len(value)
        elif isinstance(value, dict):
            inside += value.values()
        elif isinstance(value, (list, tuple)):
            inside += value
        elif not isinstance(value, (bool, int, float, NoneType)):
            size += _UNKNOWN
    return size
