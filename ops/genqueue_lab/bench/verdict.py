"""From measurements to a verdict: an interval by bootstrap, held against a limit."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Verdict = Literal["holds", "fails", "inconclusive"]

#: Exit status of a benchmark for each verdict.
STATUS: Final[dict[Verdict, int]] = {"holds": 0, "fails": 1, "inconclusive": 2}

#: Times the rounds are drawn anew, and the share of the results that the interval covers.
RESAMPLES: Final = 1000
COVERAGE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with its interval."""

    value: float
    low: float
    high: float

    def against(self, limit: float) -> Verdict:
        """Return whether the median is at most `limit`; inconclusive when the interval has the limit inside."""
        if self.high <= limit:
            return "holds"
        return "fails" if self.low > limit else "inconclusive"


def median_of(rounds: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Return the median over all rounds; whole rounds are drawn, as what disturbs a machine outlasts single values.

    Args:
        rounds: the values of each round; at least one round, none empty.
        seed: of the draws, so that the same values give the same interval.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    drawn = sorted(
        statistics.median([value for one in draw.choices(rounds, k=len(rounds)) for value in one])
        for _ in range(RESAMPLES)
    )
    edge = int(RESAMPLES * (1 - COVERAGE) / 2)
    whole = statistics.median([value for one in rounds for value in one])
    return Estimate(whole, drawn[edge], drawn[-1 - edge])


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on several promises at once: it holds when all do, and fails when one does."""
    found = set(verdicts)
    if "fails" in found:
        return "fails"
    return "inconclusive" if "inconclusive" in found else "holds"
