"""From measurements to a verdict: an interval by bootstrap, held against a limit."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: What one round measured.
Round = TypeVar("Round")

Verdict = Literal["holds", "fails", "inconclusive"]

#: Exit status of a benchmark for each verdict.
STATUS: Final[dict[Verdict, int]] = {"holds": 0, "fails": 1, "inconclusive": 2}

#: Times the rounds are drawn anew, and the share of the results that the interval covers.
RESAMPLES: Final = 1000
COVERAGE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval."""

    value: float
    low: float
    high: float

    def against(self, limit: float) -> Verdict:
        """Return whether the figure is at most `limit`; inconclusive when the interval has the limit inside."""
        if self.high <= limit:
            return "holds"
        return "fails" if self.low > limit else "inconclusive"

    def reaches(self, limit: float) -> Verdict:
        """Return whether the figure is at least `limit`; inconclusive when the interval has the limit inside."""
        if self.low >= limit:
            return "holds"
        return "fails" if self.high < limit else "inconclusive"


def estimate(rounds: Sequence[Round], figure: Callable[[Sequence[Round]], float], seed: int = 0) -> Estimate:
    """Return a figure over all rounds; whole rounds are drawn, as what disturbs a machine outlasts single values.

    A round that holds several series, measured one right after the other, makes the figure a paired one.

    Args:
        rounds: what each round measured; at least one.
        figure: a number from any selection of rounds.
        seed: of the draws, so that the same values give the same interval.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    drawn = sorted(figure(draw.choices(rounds, k=len(rounds))) for _ in range(RESAMPLES))
    edge = int(RESAMPLES * (1 - COVERAGE) / 2)
    return Estimate(figure(rounds), drawn[edge], drawn[-1 - edge])


def median_of(rounds: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Return the median over all rounds, none of them empty; see `estimate`."""
    return estimate(rounds, lambda drawn: statistics.median(_together(drawn)), seed)


def quantile_of(rounds: Sequence[Sequence[float]], share: float) -> Estimate:
    """Return a quantile over all rounds, e.g. share=0.99 for p99; see `estimate`."""
    return estimate(rounds, lambda drawn: quantile(_together(drawn), share))


def difference_of(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], share: float) -> Estimate:
    """Return the first series' quantile less the second's, over rounds that hold the values of both."""
    return estimate(pairs, lambda drawn: _quantile_at(drawn, 0, share) - _quantile_at(drawn, 1, share))


def ratio_of(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Return the sum of the first figures over that of the second ones, over rounds that hold both."""
    return estimate(pairs, lambda drawn: sum(one for one, _ in drawn) / sum(other for _, other in drawn))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies, between two of them in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _together(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [value for one in rounds for value in one]


def _quantile_at(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], side: int, share: float) -> float:
    return quantile(_together([pair[side] for pair in pairs]), share)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on several promises at once: it holds when all do, and fails when one does."""
    found = set(verdicts)
    if "fails" in found:
        return "fails"
    return "inconclusive" if "inconclusive" in found else "holds"
