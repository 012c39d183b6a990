"""Which receivers gave no answer of late: few are told at once, so that they hold up nobody else's deliveries."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Deliveries at once to a receiver that gave no answer last.
PROBES: Final = 4

#: Receivers remembered; whoever is forgotten gets as many deliveries as anybody.
REMEMBERED: Final = 1000


def receiver_of(whom: Mapping[str, Any]) -> str:
    """Return who hears of an end: a URL's host and port, "" for the broker."""
    return urlsplit(str(whom.get("url", ""))).netloc


class Receivers:
    """The receivers that one worker tells."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._silent: dict[str, None] = {}

    def crowded(self, receiver: str) -> bool:
        """Return whether a receiver that gave no answer is being told of as many ends as it may."""
        return receiver in self._silent and self._under_way[receiver] >= PROBES

    @contextmanager
    def telling(self, receiver: str) -> Iterator[None]:
        """Count a delivery while the block runs; a block that fails had no answer."""
        self._under_way[receiver] += 1
        try:
            yield
        except Exception:
            self._note_silence(receiver)
            raise
        else:
            self._silent.pop(receiver, None)
        finally:
            self._under_way[receiver] -= 1
            if not self._under_way[receiver]:
                del self._under_way[receiver]

    def _note_silence(self, receiver: str) -> None:
        self._silent.pop(receiver, None)
        self._silent[receiver] = None
        if len(self._silent) > REMEMBERED:
            del self._silent[next(iter(self._silent))]
