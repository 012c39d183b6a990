"""`genqueue drill faults`: the provider fails in every way the emulator knows, before and after the first delta."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genqueue.lanes import LANES
from genqueue_lab.drill.audit import wait_ended
from genqueue_lab.drill.fault_table import CASES, FIRST_TOKEN, TOKEN, failed, retry
from genqueue_lab.drill.fault_trials import Trial, difference, early, rows, waits_of
from genqueue_lab.drill.load import Load
from genqueue_lab.drill.report import claim, happened, none_of
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from genqueue.events import Event
    from genqueue_lab.drill.fault_table import Case, Moment
    from genqueue_lab.drill.load import Accepted
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Claim, Report

#: Tries of a job: enough for one fault each, and few enough to see them used up.
TRIES: Final = 4

#: Chunks that come before a fault "after the first delta", in turn of the rounds.
SHOWN: Final = (2, 1, 7)

#: Tokens, and so chunks, of an answer.
TOKENS: Final = 10

#: Requests in each of the quota's short minutes, the minute in seconds, and jobs that want it at once.
QUOTA: Final = 4
MINUTE: Final = 1.0
CROWD: Final = 6

#: Seconds without an end after which the drill waits no more: longer than the longest back-off of so few tries.
PATIENCE: Final = 15.0

#: Cases that take long to use up their tries: the quick drill does not wait for that.
_SLOW: Final = frozenset({"silence", "stall"})

#: What becomes of a job that has shown something, by its `on_interrupt`.
_MODES: Final = {"continue": f"{retry('protocol_error')}, continued", "fail": failed("interrupted")}


def run(plan: Plan) -> Report:
    """Let every fault strike one request of each of many jobs, and some strike all of a job's."""
    setting = Setting(
        pace=Pace(ttft=0.05, tpot=0.02, tokens=TOKENS),
        worker={"SLOTS": 90, "FIRST_TOKEN_TIMEOUT": FIRST_TOKEN, "TOKEN_TIMEOUT": TOKEN},
        client={"max_tries": 1 if plan.control else TRIES},
    )
    with Scene("faults", plan, setting, readers=0.5) as scene:
        scene.say(f"starting {len(LANES)} workers, one for each lane")
        # A connection that a fault ends must not have a stream of another trial on it.
        for worker in [scene.stage.hire(LANES=lane) for lane in LANES]:
            worker.wait_ready()
        trials, endless = _on_streams(scene)
        trials += _on_connections(scene)
        crowd = _crowd(scene)
        streams = scene.audit(PATIENCE).streams
        calls = {prompt: count["calls"] for prompt, count in scene.stage.emulator.prompts().items()}
        claims = [
            *scene.claims(),
            *_claims(scene, trials, streams, calls),
            _used_up(scene, endless, streams),
            _obeyed(crowd, streams),
        ]
        return scene.report(claims, figures={"trials": len(trials), "outcomes": rows(trials, streams, calls)})


def _on_streams(scene: Scene) -> tuple[list[Trial], list[Trial]]:
    """Run what strikes single streams, all at once; returns the trials of one fault, and of one after the other."""
    cases = [case for case in CASES if not case.alone]
    trials = [trial for number in _rounds(scene) for case in cases for trial in _both_moments(scene, case, number)]
    for mode, expected in _MODES.items():
        trials += _with_mode(scene, mode, expected)
    quick = scene.plan.quick
    again = [case for case in cases if case.retried and not (quick and case.name in _SLOW)]
    endless = [_endless(scene, case) for case in again]
    scene.say(f"{len(trials)} jobs of which one request fails, {len(endless)} of which all do")
    wait_ended(scene.stage, scene.load.accepted, PATIENCE)
    return trials, endless


def _on_connections(scene: Scene) -> list[Trial]:
    """Run what strikes whole connections, one after the other."""
    cases = [case for case in CASES if case.alone]
    scene.say(f"{len(cases)} faults of whole connections, on each lane")
    trials: list[Trial] = []
    for number in _rounds(scene):
        for case in cases:
            for moment in case.moments:
                trials += _at(scene, case, moment, number)
                wait_ended(scene.stage, [trial.job for trial in trials[-len(LANES) :]], PATIENCE)
    return trials


def _rounds(scene: Scene) -> range:
    return range(1 if scene.plan.quick else len(SHOWN))


def _both_moments(scene: Scene, case: Case, number: int) -> Iterator[Trial]:
    for moment in case.moments:
        yield from _at(scene, case, moment, number)


def _at(scene: Scene, case: Case, moment: Moment, number: int) -> list[Trial]:
    """Put a case's rule for a moment in force, and submit a job for it on every lane."""
    mark = f"({case.name}, {moment}, {number})"
    after = SHOWN[number] if moment == "after" else 0
    scene.stage.emulator.fault(**{**case.rule, "after": after, "match": mark, "each": 1})
    jobs = [scene.load.one(_prompt(scene, mark, lane), lane) for lane in LANES]
    return [Trial(case, moment, job, case.expected(moment)) for job in jobs if job is not None]


def _with_mode(scene: Scene, mode: str, expected: str) -> list[Trial]:
    """Let a reset strike, after the first delta, jobs with another `on_interrupt`."""
    case = next(case for case in CASES if case.name == "reset")
    mark = f"({case.name}, {mode})"
    scene.stage.emulator.fault(**case.rule, after=SHOWN[0], match=mark, each=1)
    load = Load(scene.stage.client(), scene.name, scene.readers.follow, on_interrupt=mode)
    jobs = [load.one(_prompt(scene, mark, lane), lane) for lane in LANES]
    scene.load.accepted += load.accepted
    case = replace(case, name=f"{case.name}, {mode}")
    return [Trial(case, "after", job, expected) for job in jobs if job is not None]


def _endless(scene: Scene, case: Case) -> Trial:
    """Submit a job of which every request is struck."""
    mark = f"({case.name}, always)"
    told = {name: None for name in ("retry_info", "retry_after") if name in case.rule}
    scene.stage.emulator.fault(**{**case.rule, **told, "match": mark})
    job = scene.load.one(_prompt(scene, mark, "normal"), "normal")
    if job is None:
        raise RuntimeError("a submit to a server of the drill's own was refused")
    return Trial(case, "before", job, case.expected("before"))


def _prompt(scene: Scene, mark: str, lane: str) -> str:
    return f"{mark} on lane {lane}, seed {scene.plan.seed}"


def _crowd(scene: Scene) -> list[Accepted]:
    """Submit more jobs at once than the provider's quota has room for."""
    emulator = scene.stage.emulator
    emulator.limit(rpm=QUOTA, window="sliding", minute=MINUTE)
    jobs = [
        scene.load.one(_prompt(scene, f"(quota, {number})", LANES[number % 3]), LANES[number % 3])
        for number in range(CROWD)
    ]
    accepted = [job for job in jobs if job is not None]
    wait_ended(scene.stage, accepted, PATIENCE)
    emulator.limit(rpm=None)
    return accepted


def _claims(
    scene: Scene, trials: Sequence[Trial], streams: Mapping[str, Sequence[Event]], calls: Mapping[str, int]
) -> list[Claim]:
    """Return the claims about the trials of one fault each."""
    struck = {rule["match"]: rule["struck"] for rule in scene.stage.emulator.faults()}
    missed = [mark for mark, count in struck.items() if not count]
    wrong = (difference(trial, streams[trial.job.flight], calls) for trial in trials)
    hasty = (early(trial, streams[trial.job.flight]) for trial in trials)
    return [
        happened("every fault struck", not missed, ", ".join(missed)),
        none_of("each fault's outcome is the documented one, on every lane", [one for one in wrong if one]),
        none_of("no try came before the moment the provider told", [one for one in hasty if one]),
    ]


def _used_up(scene: Scene, endless: Sequence[Trial], streams: Mapping[str, Sequence[Event]]) -> Claim:
    """Return the claim about jobs of which every request failed."""
    letters = {letter.flight for letter in scene.stage.client().dead(limit=1000)}
    wrong = []
    for trial in endless:
        flight, events = trial.job.flight, streams[trial.job.flight]
        end = failed(events[-1].fields.get("code", "")) if events[-1].type == "failed" else events[-1].type
        waits = len(waits_of(events))
        if (end.replace("failed", "retry"), waits, flight in letters) != (trial.expected, TRIES - 1, True):
            kept = "a dead letter" if flight in letters else "no dead letter"
            wrong.append(f"{trial.case.name}: {end} after {waits} retries, {kept}")
    return none_of(f"a fault that stays ends its job after {TRIES} tries, as a dead letter with its code", wrong)


def _obeyed(crowd: Sequence[Accepted], streams: Mapping[str, Sequence[Event]]) -> Claim:
    """Return the claim about jobs that met a used-up quota."""
    codes = [code for job in crowd for code in waits_of(streams[job.flight])]
    ended = all(streams[job.flight][-1].type == "completed" for job in crowd)
    found = f"{len(codes)} retries of {len(crowd)} jobs"
    return claim(
        "jobs beyond a quota complete in its next minutes", ended and set(codes) == {"RESOURCE_EXHAUSTED"}, found
    )
