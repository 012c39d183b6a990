"""A thousand streams that start at once and live side by side: what their readers, and the worker's memory, say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.bench.bed import worker_memory
from genqueue_lab.bench.verdict import quantile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue_lab.bench.bed import Bed
    from genqueue_lab.bench.crowds import Crowd
    from genqueue_lab.drill.crew import Worker

#: Streams, those of them that are watched, and seconds between two of their deltas.
LIVE: Final = 1000
WATCHED: Final = 100
TPOT: Final = 0.5

#: Seconds to the first delta, once all have asked.
TTFT: Final = 1.0

#: Deltas of a stream of the floor, of which only the start is looked at.
FEW: Final = 2

#: Seconds of one look.
WINDOW: Final = 2.0

#: Seconds until all have begun, and ended, on a machine with other work.
PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Thousand:
    """What was seen.

    Attributes:
        gaps: between two deltas of a watched stream, in times TPOT, of each look.
        live: streams that were live at once.
        whole: streams with all their deltas and a good end.
        spread: seconds from the first request to the last.
        memory: bytes the worker held, with its children.
        late: p90 of the emulator's own delay, in times TPOT.
    """

    gaps: Sequence[Sequence[float]]
    live: int
    whole: int
    spread: float
    memory: int
    late: float

    def text(self) -> str:
        """Return it as a line for people."""
        p99 = quantile([gap for look in self.gaps for gap in look], 0.99)
        return (
            f"{self.live} live at once, {self.whole} whole, p99 gap {p99:.2f} TPOT, "
            f"all asked within {self.spread:.2f} s, {self.memory / 1e6:.0f} MB"
        )


def spread_of(bed: Bed, crowd: Crowd) -> float:
    """Return within how many seconds the floor's requests go out, that many asked for at once."""
    bed.emulator.reset_stats()
    with bed.emulator.paced(ttft=TTFT, tpot=TPOT, tokens=FEW):
        crowd.tell("ask", LIVE, WATCHED, 0.0)
        spread = _spread(bed.emulator.wait(PATIENCE, calls_at_least=LIVE))
        bed.emulator.wait(PATIENCE, live_at_most=0)
    crowd.tell("call_off")
    return spread


def thousand(bed: Bed, crowd: Crowd, worker: Worker, windows: int) -> Thousand:
    """Let a worker find so many jobs in its queue, and look at their streams so many times.

    The provider answers none before all have asked, however long that takes, so that all are live at once. Then all
    their deltas are due in the same moments, which is harder than at moments of their own.
    """
    tokens = round((TTFT + (windows + 1) * WINDOW) / TPOT)
    bed.emulator.reset_stats()
    with bed.emulator.paced(ttft=TTFT, tpot=TPOT, tokens=tokens):
        held = bed.emulator.fault("slow_start", seconds=2 * PATIENCE)
        worker.freeze()
        crowd.tell("ask", LIVE, WATCHED, 0.0)
        worker.thaw()
        spread = _spread(bed.emulator.wait(PATIENCE, calls_at_least=LIVE))
        bed.emulator.clear_faults(held)
        if not crowd.tell("begun", PATIENCE):
            raise TimeoutError(f"{crowd.name}: not all of {LIVE} streams have begun within {PATIENCE:g} s")
        looks = [crowd.tell("window", WINDOW, 2 * TPOT).gaps for _ in range(windows)]
        memory = worker_memory(worker)
        totals = bed.emulator.wait(PATIENCE, live_at_most=0)["totals"]
        crowd.tell("ended", PATIENCE)
    whole = crowd.tell("whole", tokens)
    crowd.tell("call_off")
    gaps = [[gap / TPOT for gap in look] for look in looks if look]
    return Thousand(gaps or [[math.inf]], totals["peak"], whole, spread, memory, totals["lag_p90"] / TPOT)


def _spread(seen: Mapping[str, Any]) -> float:
    starts: list[float] = [one["start"] for one in seen["requests"] if one["prompt"] is not None]
    return max(starts) - min(starts)
