"""What a benchmark was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Plan:
    """How one run of a benchmark goes.

    Attributes:
        say: takes lines of progress, for people.
        quick: whether it ends within a minute.
        control: whether the mechanism under test is switched off.
        chart: whether to draw a chart.
        seed: of everything that is drawn.
        logs: where the processes' logs are kept; None keeps none.
    """

    say: Callable[[str], object]
    quick: bool = False
    control: bool = False
    chart: bool = False
    seed: int = 0
    logs: Path | None = None
