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
    from genqueue_worker.ways import Way

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
        reasons += self._servers(self.runtime) + self._providers()
        return [*reasons, *(f"held: {reason}" for reason in sorted(self.slots.held))]

    def against_providers(self) -> dict[str, list[str]]:
        """Return what is against each provider, by its name; nothing while it serves."""
        return {} if self.runtime is None else {way.route.name: against_way(way) for way in self.runtime.ways}

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

    def _providers(self) -> list[str]:
        """Return what is against every provider; empty while one of them serves: there is work to do."""
        reasons = self.against_providers().values()
        return [reason for way in reasons for reason in way] if all(reasons) else []


def against_way(way: Way) -> list[str]:
    """Return why a provider serves nothing; empty when it does."""
    name, reasons = way.route.name, []
    if not way.has_answered:
        reasons.append(f"the provider {name} has not answered with this key: see provider.warm_failed in the log")
    if way.refusal is not None:
        reasons.append(f"the provider {name} refuses this worker's key: see access.refused in the log")
    return reasons
