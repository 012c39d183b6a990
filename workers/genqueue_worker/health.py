"""Whether this process lives and whether it is ready for work, each with the reasons against it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from genqueue_worker.consuming import Consuming
    from genqueue_worker.runtime import Runtime
    from genqueue_worker.slots import Slots
    from genqueue_worker.watchdog import Watchdog

#: Seconds for which the hub or the loop may not turn while the process still counts as alive, and as ready.
ALIVE: Final = 30.0
AWAKE: Final = 5.0

#: Seconds within which data server and broker must have answered a sweep; at least this many sweeps.
LATELY: Final = 10.0
SWEEPS: Final = 4


@dataclass(slots=True)
class Health:
    """What is known of one worker process. Any thread may ask.

    Attributes:
        runtime: None until data server and provider have been asked.
        alive: seconds for which hub or loop may not turn.
        lately: seconds within which a server must have answered.
    """

    watchdog: Watchdog
    consuming: Consuming
    slots: Slots
    alive: float = ALIVE
    lately: float = LATELY
    runtime: Runtime | None = None

    def against_life(self) -> list[str]:
        """Return why the process should be ended; empty while it lives."""
        return self._asleep(self.alive)

    def against_readiness(self) -> list[str]:
        """Return why it does not work on jobs now, or will not for long; empty when it does."""
        reasons = self._asleep(AWAKE)
        if self.consuming.stopping:
            reasons.append("stopping: it was told to end")
        if self.runtime is None:
            return [*reasons, "starting: the data server or the provider has not been asked yet"]
        if not self.consuming.running and not self.consuming.stopping:
            reasons.append("not consuming: it is connecting to the broker")
        reasons += self._servers(self.runtime)
        if not (self.runtime.telemetry.answered or _is_warm(self.runtime)):
            reasons.append("the provider has not answered with this key: see provider.warm_failed in the log")
        if self.runtime.access is not None and self.runtime.access.refusal is not None:
            reasons.append("the provider refuses this worker's key: see access.refused in the log")
        return [*reasons, *(f"held: {reason}" for reason in sorted(self.slots.held))]

    def _asleep(self, patience: float) -> list[str]:
        threads = {"loop": "the asyncio loop", "hub": "Celery's thread"}
        lasting = {name: self.watchdog.lasting(what) for what, name in threads.items()}
        return [f"{name} has not turned for {seconds:.0f} s" for name, seconds in lasting.items() if seconds > patience]

    def _servers(self, runtime: Runtime) -> list[str]:
        now = time.monotonic()
        answered = {"data server": runtime.sweeper.data_at, "broker": runtime.sweeper.broker_at}
        return [
            f"the {name} has not answered for more than {self.lately:g} s"
            for name, moment in answered.items()
            if now - moment > self.lately
        ]


def _is_warm(runtime: Runtime) -> bool:
    return runtime.warmth is not None and runtime.warmth.warm
