"""`genqueue drill pause`: a worker is stopped past its leases and continued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genqueue_lab.drill import absence

if TYPE_CHECKING:
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Report


def run(plan: Plan) -> Report:
    """Stop workers (SIGSTOP) and continue them, also across the time to live of the streams they were writing."""
    way = absence.Absence(
        "pause", proxied=False, begin=lambda worker, _: worker.freeze(), end=lambda worker, _: worker.thaw()
    )
    return absence.run(plan, way)
