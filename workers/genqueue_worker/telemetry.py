"""What a worker counts and measures, in Prometheus's format. `METRICS` is the whole of it; ops/metrics.md shows it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from genqueue.lanes import LANES, queues_of
from genqueue_worker.outcome import Failed, Interrupted, Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genqueue.lanes import Lane
    from genqueue.ledger import Settled, Swept
    from genqueue_worker.attempt import Clock
    from genqueue_worker.outcome import Outcome

#: Content type of `Telemetry.text`.
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

#: What becomes of an attempt, as the ledger answered.
OUTCOMES: Final = ("succeeded", "failed", "cancelled", "retry", "interrupted", "refused")

#: Codes a counter tells apart; a worker that meets more calls the rest "other".
CODES: Final = 64

_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60)
_LONG: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: with its unit; a counter's ends in _total.
        values: of each label that are known before anything happened, by label; the others come with their first use.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


#: What becomes of a flight that has a process of its own.
SUSPECTS: Final = (*OUTCOMES, "lost")

_LANES: Final[Mapping[str, tuple[str, ...]]] = {"lane": LANES}
_SERVERS: Final[Mapping[str, tuple[str, ...]]] = {"server": ("data", "broker")}
_CAUSES: Final[Mapping[str, tuple[str, ...]]] = {"cause": ("attempt", "lost")}
_RESTARTS: Final[Mapping[str, tuple[str, ...]]] = {"cause": ("connection", "watchdog")}

_PROTOCOLS: Final[Mapping[str, tuple[str, ...]]] = {"protocol": ("h2", "http/1.1")}

#: What names a pool of connections.
_WAY: Final = ("provider", "route")

#: Every metric of genqueue's own, in the order of the page.
METRICS: Final = (
    Metric(
        "genqueue_attempts_total", "counter", ("lane", "outcome"),
        "Attempts that ended here, by what the ledger made of them; refused: the token was void.",
        values={**_LANES, "outcome": OUTCOMES},
    ),
    Metric("genqueue_retries_total", "counter", ("lane", "code"), "Attempts that are tried again, by the reason."),
    Metric(
        "genqueue_dead_letters_total", "counter", ("cause",),
        "Flights that became dead letters: by an attempt's end, or lost with their workers.", values=_CAUSES,
    ),
    Metric(
        "genqueue_suspects_total", "counter", ("outcome",),
        "Processes for one flight that ended, whose attempts are in no other counter but that of dead letters; lost: "
        "it died, or could not begin.",
        values={"outcome": SUSPECTS},
    ),
    Metric(
        "genqueue_revocations_total", "counter", (), "Flights this worker ended because their task was revoked.",
    ),
    Metric(
        "genqueue_lease_recoveries_total", "counter", ("lane",),
        "Flights queued again by this worker's sweeps because their lease was over.", values=_LANES,
    ),
    Metric(
        "genqueue_messages_republished_total", "counter", ("lane",),
        "Messages that the broker lost and this worker's sweeps published again.", values=_LANES,
    ),
    Metric(
        "genqueue_fallbacks_total", "counter", ("model", "fallback"),
        "Times a model was overloaded or retired, and another of its [fallbacks] was asked.",
    ),
    Metric(
        "genqueue_ttft_seconds", "histogram", ("lane",),
        "From the claim to the first token (TTFT), of attempts that got one.", _SECONDS, _LANES,
    ),
    Metric(
        "genqueue_queue_wait_seconds", "histogram", ("lane",),
        "From the submit to the claim, of first attempts.", _LONG, _LANES,
    ),
    Metric(
        "genqueue_flight_seconds", "histogram", ("lane",),
        "From the submit to the whole answer, of flights that succeeded.", _LONG, _LANES,
    ),
    Metric(
        "genqueue_lane_depth", "gauge", ("lane",),
        "Flights of the whole deployment that are queued, by the ledger; the same from every worker.",
    ),
    Metric(
        "genqueue_lane_oldest_seconds", "gauge", ("lane",),
        "Since when the one queued longest waits, 0 without one; the same from every worker.",
    ),
    Metric("genqueue_slots", "gauge", (), "Tasks that may run here at once."),
    Metric("genqueue_live_attempts", "gauge", (), "Tasks that run here now."),
    Metric("genqueue_leases_held", "gauge", (), "Leases this worker renews."),
    Metric(
        "genqueue_provider_connections", "gauge", (*_WAY, "protocol"),
        "Open connections to the provider that take requests, by what was negotiated.", values=_PROTOCOLS,
    ),
    Metric("genqueue_provider_streams", "gauge", _WAY, "Live streams to the provider."),
    Metric(
        "genqueue_provider_handshakes_total", "counter", (*_WAY, "protocol"),
        "Connections that were opened to the provider, by what was negotiated; failed: those that came to nothing.",
        values={"protocol": (*_PROTOCOLS["protocol"], "failed")},
    ),
    Metric(
        "genqueue_provider_requests_total", "counter", (*_WAY, "connection"),
        "Requests sent to the provider, the first ones of a connection and those that reused it.",
        values={"connection": ("new", "reused")},
    ),
    Metric(
        "genqueue_provider_resent_total", "counter", _WAY,
        "Requests that were sent again because the provider had done nothing about them; no tries.",
    ),
    Metric(
        "genqueue_provider_connections_ended_total", "counter", (*_WAY, "cause"),
        "Connections that ended: the provider said goodbye (GOAWAY), they were lost, or idle and closed by the worker.",
        values={"cause": ("goodbye", "lost", "idle")},
    ),
    Metric(
        "genqueue_provider_serves", "gauge", ("route",), "1 while the provider has answered and takes the key, else 0.",
    ),
    Metric("genqueue_sweeps_total", "counter", (), "Looks at every partition that came to their end."),
    Metric(
        "genqueue_outages_total", "counter", ("server",),
        "Times the data server or the broker stopped answering this worker's sweeps.", values=_SERVERS,
    ),
    Metric(
        "genqueue_consumer_restarts_total", "counter", ("cause",),
        "Times Celery's consumer connected anew: its connection was lost, or the watchdog asked.", values=_RESTARTS,
    ),
    Metric("genqueue_ready", "gauge", (), "1 while /readyz says yes, else 0."),
    Metric("genqueue_build_info", "gauge", ("version", "celery", "python"), "Always 1."),
)  # fmt: skip

_KINDS: Final[Mapping[str, Any]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class Telemetry:
    """Counts what the attempts and sweeps of one process did; safe from any thread.

    Attributes:
        ended: what the last attempt came to, one of OUTCOMES; None before one did.
        dead: whether that made a dead letter.
    """

    def __init__(self) -> None:
        self.ended: str | None = None
        self.dead = False
        disable_created_metrics()  # type: ignore[no-untyped-call] # a further series for each, of use to nobody
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._made = {metric.name: _make(metric, self._registry) for metric in METRICS}
        self._codes: set[str] = set()
        self._totals: dict[tuple[str, ...], int] = {}
        build = (version("genqueue"), version("celery"), platform.python_version())
        self._of("genqueue_build_info", *build).set(1)

    def text(self) -> bytes:
        """Return everything, as Prometheus reads it."""
        return generate_latest(self._registry)

    def attempt(self, lane: Lane, outcome: Outcome, settled: Settled | None) -> None:
        """Count the end of an attempt, once the ledger has answered."""
        self.ended = word = outcome_of(outcome, settled)
        self._of("genqueue_attempts_total", lane, word).inc()
        if word == "retry" and isinstance(outcome, Retry):
            self._of("genqueue_retries_total", lane, self._bounded(outcome.code)).inc()
        self.dead = settled is not None and (settled.dead or (settled.status == "already" and _dies(word, outcome)))
        if self.dead:
            self._of("genqueue_dead_letters_total", "attempt").inc()

    def suspect(self, outcome: str, *, dead: bool) -> None:
        """Count the end of a process for one flight, by one of SUSPECTS, and whether its attempt made a dead letter."""
        self._of("genqueue_suspects_total", outcome).inc()
        if dead:
            self._of("genqueue_dead_letters_total", "attempt").inc()

    def times(self, lane: Lane, first: bool, clock: Clock, settled: Settled | None) -> None:  # noqa: FBT001 - of many
        """Measure an attempt, the flight's first or a later one, unless it lost its token."""
        if settled is None or settled.status in {"refused", "gone"}:
            return
        timings = clock.timings()
        if first:
            self._of("genqueue_queue_wait_seconds", lane).observe(timings["queued"])
        if clock.ttft:
            self._of("genqueue_ttft_seconds", lane).observe(clock.ttft)
        if "succeeded" in {settled.status, settled.state}:
            self._of("genqueue_flight_seconds", lane).observe(timings["total"])

    def swept(self, found: Iterable[Swept]) -> None:
        """Count a look at every partition, and what it found."""
        self._of("genqueue_sweeps_total").inc()
        for one in found:
            if one.why == "dead":
                self._of("genqueue_dead_letters_total", "lost").inc()
            elif one.publication is not None and one.why in _SWEPT:
                self._of(_SWEPT[one.why], _LANE_OF[one.publication.queue]).inc()

    def fallback(self, model: str, fallback: str) -> None:
        """Count that a model was asked in the place of another."""
        self._of("genqueue_fallbacks_total", model, fallback).inc()

    def revoked(self) -> None:
        """Count a flight that was ended because its task was revoked."""
        self._of("genqueue_revocations_total").inc()

    def outage(self, server: Literal["data", "broker"]) -> None:
        """Count the begin of an outage."""
        self._of("genqueue_outages_total", server).inc()

    def restarted(self, cause: Literal["connection", "watchdog"]) -> None:
        """Count a new start of Celery's consumer."""
        self._of("genqueue_consumer_restarts_total", cause).inc()

    def show(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._of(name, *labels).set(value)

    def total(self, name: str, value: int, *labels: str) -> None:
        """Bring a counter to a count that is kept elsewhere, and begins anew with whoever keeps it.

        Not for two threads at once.
        """
        counted = self._totals.get((name, *labels), 0)
        self._totals[name, *labels] = value
        self._of(name, *labels).inc(value - counted if value >= counted else value)

    def hide(self, name: str) -> None:
        """Show a gauge with labels no more: nobody knows its values."""
        self._made[name].clear()

    def _of(self, name: str, *labels: str) -> Any:
        return self._made[name].labels(*labels) if labels else self._made[name]

    def _bounded(self, code: str) -> str:
        if code not in self._codes and len(self._codes) >= CODES:
            return "other"
        self._codes.add(code)
        return code


_LANE_OF: Final[Mapping[str, str]] = {queue: lane for lane in LANES for queue in queues_of(lane)}

_SWEPT: Final[Mapping[str, str]] = {
    "lost": "genqueue_lease_recoveries_total",
    "unheard": "genqueue_messages_republished_total",
}

_ENDS: Final[Mapping[str, str]] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "waiting": "retry",
    "queued": "interrupted",
}


def outcome_of(outcome: Outcome, settled: Settled | None) -> str:
    """Return one of OUTCOMES: what the ledger made of an attempt's outcome.

    When only its answer was lost, and the settlement repeated, the flight may have gone on since: then it was what its
    state says if that is an end, else what the worker had told.
    """
    if settled is None or settled.status not in {*_ENDS, "already"}:
        return "refused"
    if isinstance(outcome, Interrupted) and settled.status in {"already", "waiting"}:
        return "interrupted"
    if settled.status != "already":
        return _ENDS[settled.status]
    if isinstance(outcome, Retry):
        return "failed" if settled.state == "failed" else "retry"
    return _ENDS.get(settled.state or "", "refused")


def _dies(word: str, outcome: Outcome) -> bool:
    return word == "failed" and (isinstance(outcome, Retry) or (isinstance(outcome, Failed) and outcome.retryable))


def _make(metric: Metric, registry: CollectorRegistry) -> Any:
    name = metric.name.removesuffix("_total")
    options = {"buckets": metric.buckets} if metric.buckets else {}
    made = _KINDS[metric.kind](name, metric.help, metric.labels, registry=registry, **options)
    for labels in _known(metric):
        made.labels(*labels)  # from the first scrape on, so that the first count is seen as a step from 0
    return made


def _known(metric: Metric) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for label in metric.labels:
        found = [(*labels, value) for labels in found for value in metric.values.get(label, ())]
    return [labels for labels in found if labels]
