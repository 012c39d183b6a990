"""What watches over a worker process for as long as it lives: the watchdog, and health and metrics over HTTP."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from genqueue_worker import health
from genqueue_worker.cancellation import CLEANUP_GRACE
from genqueue_worker.consuming import CONSUMING
from genqueue_worker.endpoints import Endpoints, judged, metrics
from genqueue_worker.health import Health
from genqueue_worker.pool import LIFESPAN_GRACE
from genqueue_worker.slots import SLOTS
from genqueue_worker.soundings import Soundings
from genqueue_worker.telemetry import Telemetry
from genqueue_worker.watchdog import Look, Patience, Ping, Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue_worker.endpoints import Page
    from genqueue_worker.pool import TaskPool
    from genqueue_worker.runtime import Runtime
    from genqueue_worker.settings import WorkerSettings
    from genqueue_worker.ways import Way

#: Seconds a worker that was told to end may take beyond its drain and the cleanup after it.
SLACK: Final = 5.0

#: Readings of the queues older than this, in seconds, say nothing.
CURRENT: Final = 2.0


class Oversight:
    """A worker's pool, consumer and runtime, as the watchdog and those who ask for its health see them.

    Attributes:
        telemetry: the process's counters.
    """

    def __init__(self, pool: TaskPool, settings: WorkerSettings) -> None:
        self.telemetry = Telemetry()
        self._pool = pool
        self._current = CURRENT + settings.sweep_interval
        self._hub = Ping(pool.call_hub)
        self._loop = Ping(pool.loop.call_soon_threadsafe)
        self._runtime: Runtime | None = None
        self._soundings = Soundings(settings)
        ending = settings.drain_timeout + CLEANUP_GRACE + LIFESPAN_GRACE + SLACK
        self.watchdog = Watchdog(self, Patience(settings.stall_timeout, settings.stuck_timeout), ending)
        alive = min(health.ALIVE, settings.stuck_timeout / 2) if settings.stuck_timeout else health.ALIVE
        lately = max(health.LATELY, health.SWEEPS * settings.sweep_interval)
        self._health = Health(self.watchdog, CONSUMING, SLOTS, alive, lately)
        self._measuring = threading.Lock()
        self._starts = 1
        self._asked = 0
        self.pages = {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics}

    def attend(self, runtime: Runtime | None) -> None:
        """Take note of the process's runtime, or of its end."""
        self._runtime = self._health.runtime = runtime

    def close(self) -> None:
        """Let go of what is held."""
        self._soundings.close()

    # The watchdog's ward; on its thread.

    def look(self) -> Look:
        """Return what is seen now."""
        self._count_starts()
        return Look(
            loop=self._loop.answered(),
            hub=self._hub.answered(),
            consuming=CONSUMING.running,
            stopping=CONSUMING.stopping,
            broker=self._broker_answers,
            hungry=self._broker_answers and SLOTS.free and self._work_waits,
            popped=SLOTS.popped,
        )

    def restart(self) -> None:
        """Have the consumer start anew."""
        CONSUMING.restart()

    def give_up(self) -> None:
        """Have the worker end by itself."""
        self._pool.give_up()

    def hand_back(self) -> None:
        """Hand back the flights without the hub."""
        self._pool.hand_back()

    @property
    def _broker_answers(self) -> bool:
        return self._runtime is not None and time.monotonic() - self._runtime.sweeper.broker_at < self._current

    @property
    def _work_waits(self) -> bool:
        assert self._runtime is not None  # noqa: S101 - asked only when the broker answers its sweeper
        depths = self._runtime.sweeper.depths
        return any(depths.get(queue, 0) for queue in filter(SLOTS.is_open, CONSUMING.queues))

    def _count_starts(self) -> None:
        while self._starts < CONSUMING.starts:
            self._starts += 1
            asked = self._asked < CONSUMING.asked
            self._asked += asked
            self.telemetry.restarted("watchdog" if asked else "connection")

    # Pages; on threads of the endpoints'.

    def _livez(self) -> Page:
        return judged(self._health.against_life(), "alive")

    def _readyz(self) -> Page:
        return judged(self._health.against_readiness(), "ready", providers=self._health.against_providers())

    def _metrics(self) -> Page:
        with self._measuring:
            self._measure()
            return metrics(self.telemetry.text())

    def _measure(self) -> None:
        show = self.telemetry.show
        show("genqueue_ready", not self._health.against_readiness())
        show("genqueue_slots", SLOTS.limit or 0)
        show("genqueue_live_attempts", SLOTS.running)
        runtime = self._runtime
        if runtime is not None:
            show("genqueue_leases_held", len(runtime.leases))
            for way in runtime.ways:
                self._measure_way(way)
        self._sound()

    def _measure_way(self, way: Way) -> None:
        show, total, names = self.telemetry.show, self.telemetry.total, (way.route.kind, way.route.name)
        counters = way.provider.counters(way.route)
        for protocol in ("h2", "http/1.1"):
            show("genqueue_provider_connections", counters.protocols.get(protocol, 0), *names, protocol)
        show("genqueue_provider_streams", counters.live_streams, *names)
        show("genqueue_provider_serves", not health.against_way(way), way.route.name)
        for protocol in ("h2", "http/1.1", "failed"):
            total("genqueue_provider_handshakes_total", counters.handshakes.get(protocol, 0), *names, protocol)
        total("genqueue_provider_requests_total", counters.requests - counters.reused, *names, "new")
        total("genqueue_provider_requests_total", counters.reused, *names, "reused")
        total("genqueue_provider_resent_total", counters.resent, *names)
        for cause in ("goodbye", "lost", "idle"):
            total("genqueue_provider_connections_ended_total", counters.ended.get(cause, 0), *names, cause)

    def _sound(self) -> None:
        lanes = self._soundings.read()
        if lanes is None:
            self.telemetry.hide("genqueue_lane_depth")
            self.telemetry.hide("genqueue_lane_oldest_seconds")
            return
        for lane, sounding in lanes.items():
            self.telemetry.show("genqueue_lane_depth", sounding.depth, lane)
            self.telemetry.show("genqueue_lane_oldest_seconds", sounding.oldest, lane)


@contextmanager
def overseen(pool: TaskPool, settings: WorkerSettings) -> Iterator[Oversight]:
    """Watch over the pool's process while the block runs; raises SettingsError when the health port is taken."""
    oversight = Oversight(pool, settings)
    endpoints = None
    if settings.health_port is not None:
        endpoints = Endpoints(settings.health_host, settings.health_port, oversight.pages)
        endpoints.start()
    oversight.watchdog.start()
    try:
        yield oversight
    finally:
        oversight.watchdog.close()
        if endpoints is not None:
            endpoints.close()
        oversight.close()
