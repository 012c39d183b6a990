"""`genqueue drill drain`: a fleet of two is replaced worker by worker, under load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from genqueue_lab.drill.report import claim, happened, none_of
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.events import Event
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Report

#: Seconds a worker's answers may go on after SIGTERM: less than an answer takes, so that some are handed back.
DRAIN: Final = 1.5

#: Seconds from there to the worker's end.
STOP: Final = 15.0

#: Seconds that what was handed back waits for its next attempt: far less than the lease of any lane.
WAIT_LIMIT: Final = 2.0

#: Seconds of a lease; whoever waits for one is found by it.
LEASE: Final = 8.0

#: Seconds in which something has to end.
PATIENCE: Final = 20.0

#: Seconds of load in front of a stop.
AHEAD: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Size:
    rate: float
    rounds: int


_FULL: Final = _Size(rate=10.0, rounds=5)
_QUICK: Final = _Size(rate=6.0, rounds=1)

#: Jobs of which there are more than any drill needs: it stops the load when it is through.
_ENDLESS: Final = 100_000


def run(plan: Plan) -> Report:
    """Replace each worker of two, round after round, while jobs come in."""
    size = _QUICK if plan.quick else _FULL
    setting = Setting(
        pace=Pace(ttft=0.2, tpot=0.1, tokens=30),
        worker={"SLOTS": 100, "DRAIN_TIMEOUT": DRAIN, "LEASE_HIGH": LEASE, "LEASE_OTHER": LEASE},
        without="hand_back" if plan.control else None,
    )
    with Scene("drain", plan, setting) as scene:
        scene.say("starting 2 workers")
        scene.stage.hire_ready(2)
        scene.load.begin(_ENDLESS, _ENDLESS / size.rate)
        late = [name for _ in range(size.rounds) for name in _replace_all(scene)]
        scene.load.stop()
        findings = scene.audit(PATIENCE)
        waits = handovers(findings.streams)
        stopped = scene.stage.dismissed
        claims = [
            happened("answers were handed back", bool(waits), "every answer ended within the drain; run it again"),
            *scene.claims(),
            claim("no job failed", findings.all_completed, findings.ended),
            claim("no wait for a lease", findings.losses == 0, f"{findings.losses} leases were lost"),
            claim(
                f"what was handed back waited at most {WAIT_LIMIT:g} s",
                max(waits, default=0.0) <= WAIT_LIMIT,
                f"{max(waits, default=0.0):.2f} s",
            ),
            none_of("no consumer error", [line for worker in scene.stage.everybody for line in worker.trouble]),
            none_of(f"every worker ended within {DRAIN + STOP:g} s", late),
            none_of("every worker ended with status 0", [f"{one.name}: {one.status}" for one in stopped if one.status]),
        ]
        figures = {"workers_replaced": len(stopped), "attempts_handed_back": len(waits)}
        return scene.report(claims, figures=figures)


def _replace_all(scene: Scene) -> list[str]:
    """Replace each worker of the fleet, one after the other; returns the names of those that took too long to end."""
    late = []
    for worker in list(scene.stage.workers):
        time.sleep(AHEAD)
        scene.say(f"{worker.name} is told to stop")
        worker.terminate()
        following = scene.stage.hire()
        if not worker.join(DRAIN + STOP):
            late.append(worker.name)
            worker.kill()
        scene.stage.dismiss(worker)
        following.wait_ready()
    return late


def handovers(streams: Mapping[str, Sequence[Event]]) -> list[float]:
    """Return the seconds between an attempt that was handed back and the entry that the next one begins with."""
    found = []
    for events in streams.values():
        for before, after in pairwise(events):
            if after.type == "restarted" and after.fields.get("reason") == "interrupted":
                moments = [int(event.id.partition("-")[0]) for event in (before, after)]
                found.append((moments[1] - moments[0]) / 1000)
    return found
