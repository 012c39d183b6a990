"""From measurements to a verdict."""

import random

import pytest

from genqueue_lab.bench.verdict import (
    STATUS,
    Estimate,
    difference_of,
    median_of,
    quantile,
    quantile_of,
    ratio_of,
    together,
)


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


def test_rounds_are_drawn_with_all_their_series():
    """A difference within each round is seen though the rounds differ by far more."""
    draw = random.Random(2)
    pairs = []
    for shift in range(12):
        theirs = [shift * 50 + draw.gauss(0, 1) for _ in range(40)]
        pairs.append(([value + 3 for value in theirs], theirs))
    found = difference_of(pairs, 0.5)
    assert found.low == pytest.approx(3)
    assert found.high == pytest.approx(3)
    assert ratio_of([(2.0, 1.0), (4.0, 2.0)]) == Estimate(2, 2, 2)


def test_quantiles_lie_between_values():
    """In proportion; of one value every quantile is that value."""
    assert [quantile([4, 1, 3, 2], share) for share in (0, 0.5, 1)] == [1, 2.5, 4]
    assert quantile([7], 0.99) == 7
    assert quantile_of([[1.0, 2.0, 3.0]], 0.5) == Estimate(2, 2, 2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.5, 0.9, "holds"), (0.4, 0.6, "inconclusive"), (0.1, 0.4, "fails")]
)
def test_an_interval_reaches_a_limit_from_below(low, high, verdict):
    """As it stays under one."""
    assert Estimate(0.5, low, high).reaches(0.5) == verdict
