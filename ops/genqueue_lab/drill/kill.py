"""`genqueue drill kill`: workers are killed at random, one after the other, under load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue_lab.drill.audit import kill_looking, pickups, recoveries, silences
from genqueue_lab.drill.report import claim, happened, percentile, timely
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue_lab.drill.audit import Held
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Claim, Report

#: Workers, and generations at once of each: two of them carry the load with room to spare.
WORKERS: Final = 3
SLOTS: Final = 100

#: Seconds between two kills.
INTERVAL: Final = 3.0

#: Workers that a kill leaves: with none there are no free slots either.
LEFT: Final = 1

#: Share of the kills that there is time for, below which this machine starts workers too slowly.
ENOUGH: Final = 0.5

#: Seconds from the end of a lease to the next claim that 99 of 100 lost flights wait at most.
CLAIM_LIMIT: Final = 2.0

#: Seconds in which 9 of 10 new jobs are picked up on a machine that is fast enough for claims in seconds.
PICKUP_LIMIT: Final = 0.25

#: Seconds a reader of the high lane waits at most: a lease of 4 s, and the claim.
WAIT_LIMIT: Final = 6.0


@dataclass(frozen=True, slots=True)
class _Size:
    jobs: int
    seconds: float
    readers: float
    lease: float
    patience: float


_FULL: Final = _Size(jobs=2000, seconds=60.0, readers=0.5, lease=15.0, patience=60.0)
_QUICK: Final = _Size(jobs=300, seconds=15.0, readers=1.0, lease=6.0, patience=15.0)


def run(plan: Plan) -> Report:
    """Kill workers for a while, and see what becomes of the jobs."""
    size = _QUICK if plan.quick else _FULL
    setting = Setting(
        pace=Pace(ttft=0.2, tpot=0.03, tokens=30),
        worker={"SLOTS": SLOTS, "LEASE_OTHER": size.lease},
        without="sweep" if plan.control else None,
    )
    with Scene("kill", plan, setting, readers=size.readers) as scene:
        scene.say(f"starting {WORKERS} workers")
        scene.stage.hire_ready(WORKERS)
        scene.load.begin(size.jobs, size.seconds)
        held, kills = _kill(scene, size.seconds)
        findings = scene.audit(size.patience)
        first, again = _by_loss(held)
        waits, suspects = (recoveries(some, findings.streams, held) for some in (first, again))
        p99 = percentile([*waits, *suspects], 0.99)
        wanted = size.seconds / INTERVAL - 1
        figures = {
            "kills": kills,
            "attempts_killed_in_flight": len(held),
            "recovery_p99": round(p99, 3),
            "pick_up_p90": percentile(pickups(findings.streams.values()), 0.9),
            "suspects": len(suspects),
            "recovery_of_suspects_max": max(suspects, default=0.0),
            "longest_wait_of_a_high_reader": round(scene.tally.wait, 3),
        }
        claims = [
            happened("workers were killed often enough", kills >= wanted * ENOUGH, f"{kills} kills of {wanted:.0f}"),
            *_claims(scene, held, p99),
        ]
        return scene.report(claims, [*waits, *suspects], figures)


def _by_loss(held: Sequence[Held]) -> tuple[list[Held], list[Held]]:
    """Split what was killed in flight: attempts whose flight runs on as any other, and those that make it a suspect.

    A suspect waits for a process of its own, and for room among the few that there may be.
    """
    first: dict[str, Held] = {}
    again = [one for one in held if first.setdefault(one.flight, one) is not one]
    return list(first.values()), again


def _claims(scene: Scene, held: Sequence[Held], p99: float) -> list[Claim]:
    stage, findings = scene.stage, scene.findings
    peak, calls = stage.emulator.stats(details=False)["totals"]["peak"], stage.calls()
    high = [job.flight for job in scene.load.accepted if job.lane == "high"]
    quiet = max(silences([findings.streams[flight] for flight in high]), default=0.0)
    ceiling = findings.accepted + len(held)
    pickup = percentile(pickups(findings.streams.values()), 0.9)
    slow = f"this machine takes {pickup:.2f} s to pick up a new job (p90)" if pickup > PICKUP_LIMIT else ""
    free = peak < SLOTS * (WORKERS - 1)
    return [
        happened("attempts were killed in flight", bool(held), "no kill met a running attempt; run it again"),
        happened("slots were free", free, f"{peak} live streams at once: this machine is too slow"),
        *scene.claims(),
        claim("completed = accepted", findings.all_completed, findings.ended.get("completed", 0)),
        claim(f"provider calls at most accepted + killed in flight ({ceiling})", calls <= ceiling, calls),
        timely(f"lease expiry to claim, p99 under {CLAIM_LIMIT:g} s", p99, CLAIM_LIMIT, slow),
        timely(f"a high-lane reader waits less than {WAIT_LIMIT:g} s", quiet, WAIT_LIMIT, slow),
    ]


def _kill(scene: Scene, seconds: float) -> tuple[list[Held], int]:
    """Kill a random worker again and again, and start another one for it; returns what they held, and the kills."""
    stage, held, kills = scene.stage, [], 0
    end = time.monotonic() + seconds
    while time.monotonic() + INTERVAL < end:
        time.sleep(INTERVAL)
        consuming = [worker for worker in stage.workers if worker.consumes]
        if len(consuming) < LEFT + 1:
            continue  # those that were started for the last ones are not there yet
        victim = stage.chance.choice(consuming)
        lost = kill_looking(stage, scene.load.accepted, victim)
        kills += 1
        held += lost
        scene.say(f"killed {victim.name} with {len(lost)} attempts in flight")
        stage.hire()
    return held, kills
