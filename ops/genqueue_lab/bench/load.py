"""Open-loop load: when each job is sent is planned before the first one is, and what a reader saw of each.

Everything is counted from the planned time. So a series that falls behind cannot slow its own load down and look
better for it (coordinated omission), and a load generator that is late makes the figures worse, never better.

Runs in the environments of the peers too: nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds a job may take, from its planned time to its end.
PATIENCE: Final = 30.0

#: Seconds between an order to run and the first planned time.
LEAD: Final = 0.05


class Series(Protocol):
    """One way to an answer."""

    def answer(self, prompt: str) -> AsyncIterator[object]:
        """Ask, and yield once for each delta as it comes; ends with the answer, raises when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """When to send jobs, and with which prompts.

    Attributes:
        offsets: seconds from the beginning.
        prefix: what every prompt begins with: no two plans have the same.
    """

    offsets: tuple[float, ...]
    prefix: str

    @classmethod
    def steady(cls, rate: float, seconds: float, prefix: str, seed: int) -> Plan:
        """Return so many jobs a second, each at a random moment of its share of the time, in whole milliseconds.

        Jobs at even distances would meet the chunks of earlier ones always in the same places.
        """
        draw = random.Random(seed)  # noqa: S311 - no secret
        moments = [round((number + draw.random()) / rate, 3) for number in range(round(rate * seconds))]
        return cls(tuple(moments), prefix)


@dataclass(slots=True)
class Recording:
    """What readers saw; times in ms.

    Attributes:
        first: from the planned time to the first delta; a job that had none counts as if it came at the very last.
        gaps: between two deltas of a job, of all jobs.
        total: from the planned time to the end, of each job that was answered.
        late: from the planned time to the moment a job was begun: the load generator's own share.
        deltas: how many came.
        failed: how each job that was not answered ended.
        began: monotonic time of the first planned moment.
        ended: monotonic time of the last end.
    """

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    deltas: int = 0
    failed: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, times to a microsecond."""
        return {
            name: [round(one, 3) if isinstance(one, float) else one for one in value]
            if isinstance(value, list)
            else value
            for name, value in asdict(self).items()
        }


async def run(series: Series, plan: Plan) -> Recording:
    """Send what is planned, when it is, and return what was seen once every job has ended or taken too long."""
    recording = Recording()
    loop = asyncio.get_running_loop()
    # Whole milliseconds of the loop's clock, as its timers count them.
    recording.began = began = round(loop.time() + LEAD, 3)
    async with asyncio.TaskGroup() as group:
        for number, offset in enumerate(sorted(plan.offsets)):
            planned = began + offset
            await asyncio.sleep(max(0.0, planned - loop.time()))
            group.create_task(_one(series, f"{plan.prefix} {number}", planned, recording))
    recording.ended = time.monotonic()
    return recording


async def _one(series: Series, prompt: str, planned: float, recording: Recording) -> None:
    recording.late.append((time.monotonic() - planned) * 1000)
    moments: list[float] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for _ in series.answer(prompt):
                moments.append(time.monotonic())  # noqa: PERF401 - kept whatever comes after it
    except Exception as error:  # noqa: BLE001 - every series has its own, and each is told
        recording.failed.append(f"{type(error).__name__}: {error}"[:300])
    else:
        recording.total.append((time.monotonic() - planned) * 1000)
    recording.first.append((moments[0] - planned if moments else PATIENCE) * 1000)
    recording.gaps += [(moment - before) * 1000 for before, moment in pairwise(moments)]
    recording.deltas += len(moments)
