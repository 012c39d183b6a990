"""From measurements to a verdict."""

import random

import pytest

from genqueue_lab.bench.verdict import STATUS, Estimate, median_of, together


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.4, "holds"), (0.1, 0.5, "holds"), (0.4, 0.6, "inconclusive"), (0.6, 0.9, "fails")],
)
def test_an_interval_decides(low, high, verdict):
    """With the limit inside of it nothing is decided."""
    assert Estimate(0.5, low, high).against(0.5) == verdict


def test_the_interval_is_as_wide_as_the_rounds_differ():
    """Many values of one steady round say less than several rounds that agree; the same values say the same."""
    draw = random.Random(1)
    steady = [[draw.gauss(1.0, 0.1) for _ in range(50)] for _ in range(10)]
    unsteady = [[value + shift for value in one] for shift, one in enumerate(steady)]
    narrow, wide = median_of(steady), median_of(unsteady)
    assert narrow == median_of(steady)
    assert narrow.low <= narrow.value <= narrow.high
    assert narrow.high - narrow.low < 0.1
    assert wide.high - wide.low > 2.0


@pytest.mark.parametrize(
    ("verdicts", "both"),
    [
        (("holds", "holds"), "holds"),
        (("holds", "inconclusive"), "inconclusive"),
        (("inconclusive", "fails"), "fails"),
    ],
)
def test_promises_together_hold_when_all_do(verdicts, both):
    """And fail when one does."""
    assert together(verdicts) == both
    assert sorted(STATUS.values()) == [0, 1, 2]
