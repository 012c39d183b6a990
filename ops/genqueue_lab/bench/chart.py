"""Charts of benchmarks, as PNG in `ops/bench/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Width and height in inches, and dots of each.
SIZE: Final = (9.0, 5.0)
DOTS: Final = 120

_ROOT: Final = Path(__file__).resolve().parents[2]


def save(name: str, draw: Callable[[Any], object]) -> Path:
    """Save what `draw` draws on the axes it is given (matplotlib's) as NAME.png, and return where.

    In the repository that is `ops/bench/`, elsewhere the current directory.
    """
    # Takes most of a second to import, and nothing else needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    directory = _ROOT / "bench" if _ROOT.name == "ops" else Path()
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.png"
    figure.savefig(path, metadata={"Software": None})
    return path
