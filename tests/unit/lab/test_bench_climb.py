"""Where the knee is, from steps that were measured."""

import pytest

from genqueue_lab.bench.climb import NOTHING, Step, knee_of


def step(rate, p99, late=0.0):
    """Return a step of which only that is known."""
    return Step(round(rate / 10), rate, p99, late, 0.0, 0.5, 0.1, 1.0)


def test_the_knee_is_where_the_gap_crosses_twice_tpot():
    """Between the steps on both sides of the limit, in proportion; the later of their delays counts."""
    found = knee_of(
        (step(1000, 1.0, late=9.0), step(2000, 1.5, late=0.02), step(3000, 2.5, late=0.05), step(4000, 9.0))
    )
    assert (found.knee, found.reached, found.late) == (pytest.approx(2500), True, 0.05)


def test_a_first_step_beyond_the_knee_still_has_one():
    """What comes before the first step is no stream at all, and no gap but TPOT."""
    assert NOTHING.p99 == 1.0
    assert knee_of((step(1000, 3.0),)).knee == pytest.approx(500)


def test_a_knee_beyond_all_steps_is_not_reached():
    """Then the highest rate tried is told, and that it is not the knee."""
    found = knee_of((step(1000, 1.0), step(2000, 1.2, late=0.3)))
    assert (found.knee, found.reached, found.late) == (2000, False, 0.3)
    assert "beyond 2000" in found.text()
