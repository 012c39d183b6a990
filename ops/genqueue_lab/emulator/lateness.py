"""How late chunks are: a count for each tenth of a millisecond, of all chunks since the last reset."""

from __future__ import annotations

from collections import Counter
from typing import Final

#: Counts for each second of delay, and the delay in seconds beyond which all count as one.
_PER_SECOND: Final = 10_000
_LONGEST: Final = 10.0


class Lateness:
    """Delays of chunks against their due times."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def note(self, seconds: float) -> None:
        """Count a chunk that was written so late."""
        self._counts[int(min(seconds, _LONGEST) * _PER_SECOND)] += 1

    def clear(self) -> None:
        """Forget all."""
        self._counts.clear()

    def quantile(self, share: float) -> float:
        """Return the delay in seconds within which that share of the chunks was written; 0.0 without any."""
        missing = share * self._counts.total()
        for step in sorted(self._counts):
            missing -= self._counts[step]
            if missing <= 0:
                return (step + 1) / _PER_SECOND
        return 0.0
