"""`genqueue drill poison`: one job kills every process that runs it, beside innocent ones."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue.errors import GenqueueError
from genqueue_lab.drill.audit import ENDS, fields_of, holder_of
from genqueue_lab.drill.report import claim, none_of
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from genqueue_lab.drill.load import Accepted
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Claim, Report

#: Workers that may die of it: after two such losses it runs alone.
SHARED: Final = 2

#: Seconds of a lease.
LEASE: Final = 3.0

#: Seconds from the submit to its burial, and in which something of the others has to end.
BURIAL: Final = 60.0
PATIENCE: Final = 20.0

#: Seconds between two looks at who runs it.
LOOK: Final = 0.01


@dataclass(frozen=True, slots=True)
class _Size:
    jobs: int
    seconds: float
    workers: int


_FULL: Final = _Size(jobs=400, seconds=40.0, workers=3)
_QUICK: Final = _Size(jobs=80, seconds=16.0, workers=2)


@dataclass(slots=True)
class _Victims:
    workers: int = 0
    alone: int = 0


def run(plan: Plan) -> Report:
    """Kill whoever has begun with the poisoned job, until it has ended."""
    size = _QUICK if plan.quick else _FULL
    setting = Setting(
        pace=Pace(ttft=0.3, tpot=0.1, tokens=25),
        worker={"SLOTS": 60, "LEASE_HIGH": LEASE, "LEASE_OTHER": LEASE},
        without="suspects" if plan.control else None,
    )
    with Scene("poison", plan, setting) as scene:
        scene.say(f"starting {size.workers} workers")
        scene.stage.hire_ready(size.workers)
        scene.load.begin(size.jobs, size.seconds)
        time.sleep(1)
        poisoned = scene.load.one("the poisoned one", "normal")
        victims = _Victims() if poisoned is None else _watch(scene, poisoned)
        findings = scene.audit(PATIENCE)
        flight = "" if poisoned is None else poisoned.flight
        innocent = [job.flight for job in scene.load.accepted if job.flight != flight]
        buried = [name for name in innocent if findings.streams[name][-1].type != "completed"]
        claims = [
            *scene.claims(),
            *_burial(scene, poisoned),
            none_of("every innocent job completed", buried),
            claim(f"at most {SHARED} workers died of it", victims.workers <= SHARED, victims.workers),
            claim("the fleet lives", all(worker.alive for worker in scene.stage.workers)),
        ]
        figures = {"workers_killed": victims.workers, "processes_of_its_own_killed": victims.alone}
        return scene.report(claims, figures=figures)


def _watch(scene: Scene, poisoned: Accepted) -> _Victims:
    """Kill the process of each attempt as soon as it has begun; returns how many."""
    stage, victims, seen = scene.stage, _Victims(), 0
    give_up = time.monotonic() + BURIAL
    while time.monotonic() < give_up:
        ((state, attempt, written, inbox),) = fields_of(
            stage, [poisoned.flight], "state", "attempt", "written", "inbox"
        )
        if state in ENDS:
            break
        if state == "running" and int(attempt) > seen and written != "0":
            seen = int(attempt)
            _kill(scene, holder_of(inbox), victims)
        time.sleep(LOOK)
    return victims


def _kill(scene: Scene, pid: int, victims: _Victims) -> None:
    """Kill a worker, for which another is started, or a process of a worker's in which a suspect runs."""
    stage = scene.stage
    for worker in list(stage.workers):
        if worker.pid == pid:
            worker.kill()
            stage.dismiss(worker)
            stage.hire()
            victims.workers += 1
            scene.say(f"{worker.name} died of it")
        elif pid in worker.family():
            os.kill(pid, signal.SIGKILL)
            victims.alone += 1
            scene.say(f"a process of {worker.name} died of it, alone")


def _burial(scene: Scene, poisoned: Accepted | None) -> list[Claim]:
    what = "the poisoned job ended as a dead letter, worker_lost"
    if poisoned is None:
        return [claim(what, holds=False, found="it was not accepted")]
    try:
        letter = scene.load.client.dead_letter(poisoned.id)
    except GenqueueError as error:
        return [claim(what, holds=False, found=error)]
    return [claim(what, letter.code == "worker_lost", letter.code)]
