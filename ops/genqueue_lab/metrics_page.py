"""`ops/metrics.md`, written from the metrics themselves: `python -m genqueue_lab.metrics_page [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genqueue_worker.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue_worker.telemetry import Metric

#: The page, beside the rest of the documentation.
PAGE: Final = Path(__file__).parents[1] / "metrics.md"

_HEAD: Final = """# Health and metrics

Written by `python -m genqueue_lab.metrics_page` from the metrics themselves; a test compares.

A worker with `GENQUEUE_HEALTH_PORT` serves three pages over HTTP, on `GENQUEUE_HEALTH_HOST` (`127.0.0.1`). They have
neither password nor secrets: keep the port inside.

| page | says |
|---|---|
| `/livez` | 200 while Celery's thread and the asyncio loop turn, else 503: end the process |
| `/readyz` | 200 while it consumes, data server, broker and a provider answer, and it is not stopping; else 503 |
| `/metrics` | the tables below, and `process_*` and `python_info` of the Prometheus client |

The first two answer with JSON, `{"ready": false, "reasons": ["..."]}`, from a thread of their own: also when the rest
of the process is stuck. A worker that starts, drains, or whose provider refuses its key is alive and not ready.

Attempts are counted when the ledger has answered, by what it made of them: a settlement that is repeated because its
answer was lost counts once, and so does a flight that two workers believed they ran. Sums over all workers are the
deployment's. `genqueue_lane_*` are the whole deployment's already: take the maximum.

Alert on a lane whose oldest flight waits too long (`max by (lane) (genqueue_lane_oldest_seconds)`), on
`genqueue_ready == 0` for minutes, and on any increase of `genqueue_dead_letters_total`.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_row(metric) for metric in METRICS)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`{_values(metric, label)}" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n"


def _values(metric: Metric, label: str) -> str:
    known = metric.values.get(label)
    return f" ({', '.join(known)})" if known else ""


def main(arguments: Sequence[str]) -> int:
    """Write the page; with `--check` only compare it, and return 1 when it is not what it should be."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        print(f"{PAGE} is out of date; run: python -m genqueue_lab.metrics_page", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
