"""`genqueue drill partition`: a worker is cut off from the server past its leases, and connected again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genqueue_lab.drill import absence

if TYPE_CHECKING:
    from genqueue_lab.drill.crew import Worker
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Report
    from genqueue_lab.fault_proxy import FaultProxy


def run(plan: Plan) -> Report:
    """Hold back all that goes between a worker and the server; what was held arrives at the end, late."""
    return absence.run(plan, absence.Absence("partition", proxied=True, begin=_begin, end=_end))


def _begin(_worker: Worker, proxy: FaultProxy | None) -> None:
    if proxy is not None:
        proxy.hold()


def _end(_worker: Worker, proxy: FaultProxy | None) -> None:
    if proxy is not None:
        proxy.release()
