"""Workers that are absent past their leases and come back: what `pause` and `partition` share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue_lab.drill.audit import fields_of, held_by, recoveries, wait_until
from genqueue_lab.drill.recorder import Recorder
from genqueue_lab.drill.report import claim, happened, none_of
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genqueue_lab.drill.audit import Held
    from genqueue_lab.drill.crew import Worker
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Report
    from genqueue_lab.fault_proxy import FaultProxy

#: Seconds of a lease, and of a stream's life behind its end.
LEASE: Final = 2.0
STREAM_TTL: Final = 4.0

#: Jobs of one round.
JOBS: Final = 12

#: Seconds until jobs that were taken from an absent worker run elsewhere, and until all of a round have ended.
PATIENCE: Final = 20.0

#: Seconds a worker that is back has to write what it must not: it renews each second.
AFTERMATH: Final = 2.5


@dataclass(frozen=True, slots=True)
class Absence:
    """A way to take a worker out of the world and back.

    Attributes:
        name: of the drill.
        proxied: whether each worker gets a proxy of its own.
        begin, end: do it.
    """

    name: str
    proxied: bool
    begin: Callable[[Worker, FaultProxy | None], object]
    end: Callable[[Worker, FaultProxy | None], object]


def run(plan: Plan, absence: Absence) -> Report:
    """Let one worker after the other be absent: until its jobs run elsewhere, or until their streams have expired."""
    setting = Setting(
        pace=Pace(ttft=0.3, tpot=0.1, tokens=30),
        worker={"SLOTS": 50, "LEASE_HIGH": LEASE, "LEASE_OTHER": LEASE},
        client={"stream_ttl": STREAM_TTL},
        without="fence" if plan.control else None,
    )
    with Scene(absence.name, plan, setting) as scene, Recorder(scene.stage, scene.load.accepted) as recorder:
        proxies = _hire(scene, proxied=absence.proxied)
        rounds = 2 if plan.quick else 12
        taken: list[Held] = []
        for number in range(rounds):
            taken += _round(scene, absence, proxies, late=number % 2 == 1)
        working = scene.load.submit(JOBS)
        findings = scene.audit(PATIENCE, copies=recorder.copies)
        shown = [findings.streams[job.flight] for job in working]
        claims = [
            happened("absent workers lost their tokens", bool(taken), "none held a job; run it again"),
            *scene.claims(),
            none_of("absent workers are still there", [worker.name for worker in proxies if not worker.alive]),
            claim("those who were back worked on", all(shown)),
            claim("completed = accepted", findings.all_completed, findings.ended.get("completed", 0)),
        ]
        figures = {"rounds": rounds, "attempts_taken_over": len(taken)}
        return scene.report(claims, recoveries(taken, findings.streams), figures)


def _hire(scene: Scene, *, proxied: bool) -> dict[Worker, FaultProxy | None]:
    proxies: dict[Worker, FaultProxy | None] = {}
    scene.say("starting 2 workers")
    for _ in range(2):
        proxy = scene.stage.proxy() if proxied else None
        proxies[scene.stage.hire(proxy)] = proxy
    for worker in proxies:
        worker.wait_ready()
    return proxies


def _round(scene: Scene, absence: Absence, proxies: dict[Worker, FaultProxy | None], *, late: bool) -> Sequence[Held]:
    """Take one worker away in the middle of its answers; returns what was taken over from it."""
    stage, load = scene.stage, scene.load
    jobs = load.submit(JOBS)
    wait_until(lambda: all(written != "" for (written,) in _written(scene, [job.flight for job in jobs])), PATIENCE)
    victim = stage.chance.choice(list(proxies))
    absence.begin(victim, proxies[victim])
    held = held_by(stage, jobs, victim)
    scene.say(f"{victim.name} is absent with {len(held)} attempts")
    wait_until(lambda: all(_taken_over(scene, held)), PATIENCE)
    if late:
        streams = [stage.keys.events(job.flight) for job in jobs]
        wait_until(lambda: not stage.redis.exists(*streams), PATIENCE + STREAM_TTL)
    taken = [one for one, so in zip(held, _taken_over(scene, held), strict=True) if so]
    absence.end(victim, proxies[victim])
    scene.say(f"{victim.name} is back; {len(taken)} were taken over{', their streams have expired' if late else ''}")
    time.sleep(AFTERMATH)
    return taken


def _written(scene: Scene, flights: Sequence[str]) -> list[list[str]]:
    """Return for each flight its `delta` mark, "" for one that has shown nothing yet."""
    return [["" if delta in {"", "0"} else delta] for (delta,) in fields_of(scene.stage, flights, "delta")]


def _taken_over(scene: Scene, held: Sequence[Held]) -> list[bool]:
    rows = fields_of(scene.stage, [one.flight for one in held], "attempt")
    return [int(attempt or 0) > one.attempt for one, (attempt,) in zip(held, rows, strict=True)]
