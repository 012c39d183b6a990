"""What a benchmark found: figures, and promises with a verdict each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.bench.verdict import Estimate, Verdict, together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What a verdict is in JSON.
HOLDS: Final[dict[Verdict, bool | None]] = {"holds": True, "fails": False, "inconclusive": None}


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that is held against a limit.

    Attributes:
        name: what is promised, for people, e.g. "p50 over the floor".
        figure: what was measured.
        limit: what it may be at most, or must be at least.
        unit: of both, e.g. "ms" or "times".
        at_least: whether the limit is the least and not the most.
    """

    name: str
    figure: Estimate
    limit: float
    unit: str = "ms"
    at_least: bool = False

    @property
    def verdict(self) -> Verdict:
        """Whether it was kept."""
        return self.figure.reaches(self.limit) if self.at_least else self.figure.against(self.limit)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        bound = "at_least" if self.at_least else "at_most"
        return {
            "name": self.name,
            **interval(self.figure),
            bound: self.limit,
            "unit": self.unit,
            "holds": HOLDS[self.verdict],
        }

    def text(self) -> str:
        """Return it as a line for people."""
        figure, sign = self.figure, ">=" if self.at_least else "<="
        return (
            f"{self.name}: {figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}] {self.unit}"
            f" ({sign} {self.limit:g}): {self.verdict}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found.

    Attributes:
        bench: its name.
        promises: what decides.
        figures: what was measured, of each series or size by its name: JSON values.
        ratios: how the series stand to each other; none of them decides unless it is in a promise.
        notes: lines for people, e.g. about a peer that could not be installed.
        void: why nothing can be concluded; None when something can.
        control: whether the mechanism under test was switched off.
    """

    bench: str
    promises: Sequence[Promise]
    figures: Mapping[str, Mapping[str, Any]]
    ratios: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    void: str | None = None
    control: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict on all promises; a void run has none."""
        return "inconclusive" if self.void else together(promise.verdict for promise in self.promises)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "bench": self.bench,
            "control": self.control,
            "figures": self.figures,
            "ratios": self.ratios,
            "promises": [promise.as_json() for promise in self.promises],
            "notes": list(self.notes),
            "void": self.void,
            "verdict": self.verdict,
            "holds": HOLDS[self.verdict],
        }

    def text(self) -> str:
        """Return it as lines for people."""
        void = [f"void: {self.void}"] if self.void else []
        promises = [promise.text() for promise in self.promises]
        ratios = [f"{name}: {_short(value)}" for name, value in self.ratios.items()]
        return "\n".join([*_table(self.figures), *ratios, *promises, *self.notes, *void, f"verdict: {self.verdict}"])


def interval(figure: Estimate, digits: int = 3) -> dict[str, float]:
    """Return a figure and its interval as JSON."""
    return {"value": round(figure.value, digits), "low": round(figure.low, digits), "high": round(figure.high, digits)}


def _table(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each series and a column for each thing measured, in the order they first come."""
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    lines = [["", *columns]]
    lines += [[name, *(_short(row.get(column, "")) for column in columns)] for name, row in figures.items()]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def _short(value: Any) -> str:
    match value:
        case {"value": found, "low": low, "high": high}:
            return f"{found:.2f} [{low:.2f}, {high:.2f}]"
        case float():
            return f"{value:.2f}"
        case _:
            return str(value)
