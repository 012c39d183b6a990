"""`genqueue drill restart`: the server is away for a while, in good order or not, while jobs are in flight."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from genqueue_lab.drill.audit import audit, streams_of, wait_ended
from genqueue_lab.drill.journal import Journal
from genqueue_lab.drill.load import Load
from genqueue_lab.drill.readers import Readers
from genqueue_lab.drill.report import claim, happened, none_of
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Claim, Report

#: Longest absence, in seconds, through which no stream is restarted.
UNNOTICED: Final = 3.0

#: What a server with `appendfsync everysec` has not on disk yet when its machine goes down, in seconds.
WINDOW: Final = 1.0

#: Seconds in which jobs get going before a crash, and in which something has to end once the server is back.
START: Final = 10.0
PATIENCE: Final = 45.0

#: Seconds from the submits to an absence: all answers have begun by then, and they end while the server is away.
AHEAD: Final = 5.0

#: Jobs a second that come in before a crash, so that there are some in its window.
RATE: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Size:
    jobs: int
    absences: tuple[float, ...]
    crashes: int
    lease: float


_FULL: Final = _Size(jobs=200, absences=(0.3, 3.0, 30.0), crashes=3, lease=15.0)
_QUICK: Final = _Size(jobs=60, absences=(0.3, 3.0), crashes=1, lease=6.0)


@dataclass(slots=True)
class _Seen:
    """What was seen so far.

    Attributes:
        flying: least number of streams that were live when the server went away.
        restarted: flights whose stream was restarted though the absence was short.
        calls: generations beyond one a job, after the short absences.
    """

    flying: float = float("inf")
    restarted: list[str] = field(default_factory=list)
    calls: int = 0


def run(plan: Plan) -> Report:
    """Take the server away again and again, and kill it."""
    size = _QUICK if plan.quick else _FULL
    setting = Setting(
        pace=Pace(ttft=4.0, tpot=0.1, tokens=25),
        worker={"SLOTS": size.jobs, "LEASE_OTHER": size.lease},
        without="patience" if plan.control else None,
    )
    with Scene("restart", plan, setting, readers=0.5) as scene, Journal(scene.stage.server) as journal:
        scene.say("starting 2 workers")
        workers = scene.stage.hire_ready(2)
        seen = _Seen()
        for seconds in size.absences:
            _absence(scene, size.jobs, seconds, seen)
        for _ in range(size.crashes):
            _crash_always(scene, size.jobs)
        findings = scene.audit(PATIENCE)
        claims = [
            happened("jobs were in flight", seen.flying >= size.jobs, f"{seen.flying:g} live streams of {size.jobs}"),
            *scene.claims(),
            claim("completed = accepted", findings.all_completed, findings.ended.get("completed", 0)),
            none_of("the same worker processes went on", [worker.name for worker in workers if not worker.alive]),
            none_of(f"no stream restarted through {UNNOTICED:g} s and less", seen.restarted),
            claim(f"no provider call twice through {UNNOTICED:g} s and less", seen.calls == 0, seen.calls),
        ]
        report = scene.report(claims, figures={"absences": list(size.absences)})
        window, figures = _crash_everysec(scene, size.jobs, journal)
        return replace(report, seconds=scene.seconds, claims=[*claims, *window], figures={**report.figures, **figures})


def _absence(scene: Scene, jobs: int, seconds: float, seen: _Seen) -> None:
    """Take the server away for some seconds in the middle of so many answers."""
    stage = scene.stage
    before = stage.calls()
    begun = time.monotonic()
    accepted = scene.load.submit_many(jobs)
    with suppress(TimeoutError):
        stage.emulator.wait(AHEAD, live_at_least=jobs)
    time.sleep(max(0.0, begun + AHEAD - time.monotonic()))
    live = stage.emulator.stats(details=False)["totals"]["live"]
    seen.flying = min(seen.flying, live)
    scene.say(f"the server goes away for {seconds:g} s, with {live:g} live streams")
    stage.server.halt()
    time.sleep(seconds)
    stage.server.start()
    wait_ended(stage, accepted, PATIENCE)
    if seconds <= UNNOTICED:
        streams = streams_of(stage, [job.flight for job in accepted])
        seen.restarted += [name for name, events in streams.items() if any(one.type == "restarted" for one in events)]
        seen.calls += stage.calls() - before - len(accepted)


def _crash_always(scene: Scene, jobs: int) -> None:
    """Kill the server that syncs every write, in the middle of so many answers and of submits."""
    stage = scene.stage
    stage.server.config["appendfsync"] = "always"
    stage.redis.config_set("appendfsync", "always")
    scene.load.begin(jobs, jobs / RATE / 2)
    with suppress(TimeoutError):
        stage.emulator.wait(START, live_at_least=jobs // 2)
    scene.say("the server is killed, appendfsync always")
    stage.server.kill()
    stage.server.start()
    scene.load.finish()
    wait_ended(stage, scene.load.accepted, PATIENCE)


def _crash_everysec(scene: Scene, jobs: int, journal: Journal) -> tuple[list[Claim], dict[str, int]]:
    """Let the server's machine go down, as it were: what was not synced within the last second is gone."""
    stage = scene.stage
    stage.server.config["appendfsync"] = "everysec"
    stage.redis.config_set("appendfsync", "everysec")
    with Readers(stage.settings(), scene.plan.seed, 1.0) as readers:
        load = Load(stage.client(), f"drill restart everysec {scene.plan.seed}", readers.follow)
        load.begin(jobs, jobs / RATE)
        time.sleep(jobs / RATE / 2)
        scene.say(f"the server is killed, and comes back without its last {WINDOW:g} s")
        stage.server.kill()
        moment = journal.forget(WINDOW)
        stage.server.start()
        load.finish()
        wait_ended(stage, load.accepted, PATIENCE)
        findings = audit(stage, load.accepted)
        known = {flight: events for flight, events in findings.streams.items() if findings.attempts[flight]}
        tally = readers.tally(known, rewritten=True)
    late = [job for job in load.accepted if not findings.streams[job.flight]]
    older = [job.id for job in late if job.at <= moment]
    ended = sum(findings.ended.values())
    window = {job.flight for job in late}
    faults = [fault for fault in findings.faults if fault.partition(":")[0] not in window]
    claims = [
        none_of("everysec: nothing accepted before the window was lost", older),
        claim("everysec: everything else ended", ended == len(load.accepted) - len(late), findings.ended),
        none_of("everysec: no doubled terminal event", findings.doubled),
        none_of("everysec: every stream is sound", faults),
        none_of("everysec: readers of what is left have its text", tally.faults),
    ]
    return claims, {"everysec_accepted": len(load.accepted), "everysec_lost_in_the_window": len(late)}
