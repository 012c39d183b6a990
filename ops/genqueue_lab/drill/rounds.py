"""`genqueue drill random`: rounds of one failure each, drawn by the seed, and textbook Celery under the same ones."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from genqueue import scripts
from genqueue.lanes import LANES
from genqueue_lab.drill.audit import wait_ended, wait_until
from genqueue_lab.drill.crew import START_PATIENCE
from genqueue_lab.drill.report import claim, none_of
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace
from genqueue_lab.fault_proxy import running
from genqueue_lab.textbook.peer import Peer

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from genqueue_lab.drill.crew import Worker
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Report
    from genqueue_lab.fault_proxy import FaultProxy

#: Jobs of a round.
JOBS: Final = 8

#: Seconds of a lease, of the drain after SIGTERM, and until a message counts as lost: short, so that rounds are.
LEASE: Final = 2.0
DRAIN: Final = 0.5
SLACK: Final = 1.0

#: Seconds within which a failure comes, and how long an absence lasts.
MOMENT: Final = 1.0
ABSENCE: Final = (0.2, 3.5)

#: Seconds in which something has to end; of the textbook set-up, whose server gives lost jobs back after an hour.
PATIENCE: Final = 15.0
TEXTBOOK_PATIENCE: Final = 5.0

#: Database of the textbook set-up, on the same server.
DATABASE: Final = 1

#: Workers of each set-up, and how many consume when a round begins: one may still be starting.
WORKERS: Final = 3
CONSUMING: Final = 2


@dataclass(frozen=True, slots=True)
class _Size:
    rounds: int
    textbook: int


_FULL: Final = _Size(rounds=300, textbook=60)
_QUICK: Final = _Size(rounds=8, textbook=3)


@dataclass(frozen=True, slots=True)
class Strike:
    """One failure, as it was drawn.

    Attributes:
        cause: what happens.
        worker: to which worker, by its number among those that consume.
        moment: seconds from the submits to it.
        seconds: how long an absence lasts.
    """

    cause: Callable[[Side, Worker, float], None]
    worker: int
    moment: float
    seconds: float

    @property
    def name(self) -> str:
        """What happens, in a word."""
        return self.cause.__name__.strip("_")


@dataclass(eq=False)
class Side:
    """One set-up under failures.

    Attributes:
        scene: the stage both play on.
        start: starts a worker that reaches the server by way of a proxy.
        submit: submits one more job.
        proxies: one for each worker.
        counts: failures that were caused, by name.
    """

    scene: Scene
    start: Callable[[FaultProxy], Worker]
    submit: Callable[[], object]
    proxies: dict[Worker, FaultProxy] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def hire(self) -> None:
        """Start one more worker, by way of a proxy of its own."""
        proxy = self.scene.stage.proxy()
        self.proxies[self.start(proxy)] = proxy

    def man(self) -> None:
        """See that the set-up has its workers, and that they consume."""
        for worker in [worker for worker in self.proxies if not worker.alive]:
            self.let_go(worker)
        while len(self.proxies) < WORKERS:
            self.hire()
        if not wait_until(lambda: len(self.consuming) >= CONSUMING, START_PATIENCE):
            raise TimeoutError(f"{CONSUMING} workers were not ready within {START_PATIENCE:g} s")

    @property
    def consuming(self) -> list[Worker]:
        """Those of its workers that consume."""
        return [worker for worker in self.proxies if worker.consumes]

    def let_go(self, worker: Worker) -> None:
        """Count a worker no more."""
        del self.proxies[worker]
        if worker in self.scene.stage.workers:
            self.scene.stage.dismiss(worker)

    def suffer(self, strike: Strike) -> None:
        """Cause one failure."""
        consuming = self.consuming
        worker = consuming[strike.worker % len(consuming)]
        time.sleep(strike.moment)
        self.counts[strike.name] = self.counts.get(strike.name, 0) + 1
        strike.cause(self, worker, strike.seconds)


def _sigkill(side: Side, worker: Worker, _seconds: float) -> None:
    worker.kill()
    side.let_go(worker)
    side.hire()


def _kill_before_claim(side: Side, worker: Worker, seconds: float) -> None:
    """Kill the worker between the pop of a message and the claim."""
    proxy = side.proxies[worker]
    claim = proxy.fault("before", running(scripts.CLAIM))
    side.submit()
    claim.struck.wait(seconds)  # the other worker may have popped it
    _sigkill(side, worker, seconds)


def _sigstop(_side: Side, worker: Worker, seconds: float) -> None:
    worker.freeze()
    time.sleep(seconds)
    worker.thaw()


def _sigterm(side: Side, worker: Worker, _seconds: float) -> None:
    worker.terminate()
    side.let_go(worker)
    side.hire()


def _connection_kill(side: Side, _worker: Worker, _seconds: float) -> None:
    stage = side.scene.stage
    for kind in ("normal", "pubsub"):
        stage.redis.client_kill_filter(_type=kind, skipme=True)


def _cut(side: Side, worker: Worker, _seconds: float) -> None:
    side.proxies[worker].cut()


def _partition(side: Side, worker: Worker, seconds: float) -> None:
    side.proxies[worker].hold()
    time.sleep(seconds)
    side.proxies[worker].release()


def _server_restart(side: Side, _worker: Worker, seconds: float) -> None:
    server = side.scene.stage.server
    server.halt()
    time.sleep(min(seconds, 1.0))
    server.start()


_CAUSES: Final[Sequence[Callable[[Side, Worker, float], None]]] = (
    _sigkill,
    _kill_before_claim,
    _sigstop,
    _sigterm,
    _connection_kill,
    _cut,
    _partition,
    _server_restart,
)


def run(plan: Plan) -> Report:
    """Play rounds until there were enough; in each, all jobs have to end before the next."""
    size = _QUICK if plan.quick else _FULL
    setting = Setting(
        pace=Pace(ttft=0.2, tpot=0.05, tokens=25),
        worker={
            "SLOTS": 20,
            "LEASE_HIGH": LEASE,
            "LEASE_OTHER": LEASE,
            "DRAIN_TIMEOUT": DRAIN,
            "SWEEP_SLACK": SLACK,
        },
        without="sweep" if plan.control else None,
    )
    with Scene("random", plan, setting) as scene:
        side = Side(scene, scene.stage.hire, lambda: scene.load.submit(1))
        scene.say("starting workers")
        strikes = draw(scene.stage.chance, size.rounds)
        stuck = _rounds(scene, side, strikes)
        findings = scene.audit(1.0 if stuck else PATIENCE)
        claims = [
            *scene.claims(),
            none_of("every round ended", stuck),
            claim("completed = accepted", findings.all_completed, findings.ended),
        ]
        report = scene.report(claims)
        for line in report.text().splitlines():
            scene.say(line)
        for worker in list(scene.stage.workers):
            worker.kill()
            scene.stage.dismiss(worker)
        return replace(
            report, figures={"failures": side.counts, "textbook": _textbook(scene, strikes[: size.textbook])}
        )


def draw(chance: random.Random, rounds: int) -> list[Strike]:
    """Draw a failure for each round; in every so many rounds as there are causes, each comes once."""
    causes = [cause for _ in range(0, rounds, len(_CAUSES)) for cause in chance.sample(_CAUSES, len(_CAUSES))]
    return [
        Strike(cause, chance.randrange(CONSUMING), chance.uniform(0, MOMENT), chance.uniform(*ABSENCE))
        for cause in causes[:rounds]
    ]


def _rounds(scene: Scene, side: Side, strikes: Sequence[Strike]) -> list[str]:
    """Play rounds, up to the first that does not end; returns a sentence for that."""
    for number, strike in enumerate(strikes, start=1):
        side.man()
        begun = len(scene.load.accepted)
        scene.load.submit(JOBS)
        side.suffer(strike)
        if not wait_ended(scene.stage, scene.load.accepted[begun:], PATIENCE):
            return [f"round {number}, {strike.name}"]
        if number % 10 == 0:
            scene.say(f"{number} rounds of {len(strikes)}")
    return []


def _textbook(scene: Scene, strikes: Sequence[Strike]) -> str:
    """Play rounds with the textbook set-up; returns what became of its jobs."""
    scene.say(f"the textbook set-up: {len(strikes)} rounds")
    stage = scene.stage
    with Peer(stage.server.url(DATABASE), stage.emulator, scene.plan.logs) as peer:
        numbers = itertools.count()

        def submit() -> None:
            number = next(numbers)
            peer.submit(f"textbook {scene.plan.seed}, question {number}", LANES[number % len(LANES)])

        side = Side(scene, lambda proxy: peer.hire(proxy.url(DATABASE)), submit)
        for strike in strikes:
            side.man()
            for _ in range(JOBS):
                submit()
            side.suffer(strike)
            peer.wait_ended(TEXTBOOK_PATIENCE)
        tally = peer.tally()
    ended = ", ".join(f"{count} {outcome}" for outcome, count in tally.ended.items())
    return (
        f"{len(strikes)} rounds, {tally.accepted} accepted, {peer.refused} refused; ended: {ended}; "
        f"not ended {tally.lost}, ended twice {tally.doubled}, went on behind the end {tally.behind}; {side.counts}"
    )
