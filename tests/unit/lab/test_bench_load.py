"""Planned load, and what readers of it saw."""

import asyncio

import pytest

from genqueue_lab.bench import load
from genqueue_lab.bench.load import Plan, run


class Scripted:
    """A series that yields as often as the prompt's number says, and then fails for odd ones."""

    async def answer(self, prompt):
        """Yield, and maybe fail."""
        number = int(prompt.split()[-1])
        for _ in range(number):
            yield
        if number % 2:
            raise RuntimeError("no more")


def test_a_steady_plan_has_a_moment_in_every_share_of_the_time():
    """In whole milliseconds, other ones with another seed, and the same ones with the same."""
    plan = Plan.steady(20, 2, "a", seed=1)
    assert [int(offset * 20) for offset in plan.offsets] == pytest.approx(range(40), abs=1)
    assert all(round(offset, 3) == offset for offset in plan.offsets)
    assert plan == Plan.steady(20, 2, "a", seed=1)
    assert plan.offsets != Plan.steady(20, 2, "a", seed=2).offsets


async def test_everything_is_counted_from_the_planned_moment(monkeypatch):
    """A job without a delta counts as one that took longest, and what came before a failure counts."""
    monkeypatch.setattr(load, "PATIENCE", 5.0)
    recording = await run(Scripted(), Plan((0.0, 0.01, 0.02, 0.03), "job"))
    assert max(recording.first) == 5000
    assert min(recording.first) >= 0
    assert (len(recording.late), recording.deltas, len(recording.gaps)) == (4, 6, 3)
    assert (len(recording.total), recording.failed) == (2, ["RuntimeError: no more"] * 2)
    assert set(recording.as_json()) >= {"first", "gaps", "total", "late", "failed"}


async def test_a_job_that_hangs_does_not_delay_those_behind_it(monkeypatch):
    """They are sent when it was planned."""
    monkeypatch.setattr(load, "PATIENCE", 1.0)
    begun = []

    class Hanging:
        async def answer(self, prompt):
            begun.append(prompt)
            if len(begun) == 1:
                await asyncio.Event().wait()
            yield

    recording = await run(Hanging(), Plan((0.0, 0.001, 0.002), "job"))
    assert begun == ["job 0", "job 1", "job 2"]
    assert recording.failed == ["TimeoutError: "]
