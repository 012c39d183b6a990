"""What a benchmark was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from genqueue_lab.drill import plan


@dataclass(frozen=True, slots=True)
class Plan(plan.Plan):
    """How one run of a benchmark goes: as that of a drill.

    Attributes:
        chart: whether to draw a chart.
    """

    chart: bool = False
