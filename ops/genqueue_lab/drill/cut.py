"""`genqueue drill cut`: commands and replies are lost at random, between everybody and the server."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue_lab.drill.report import claim, happened
from genqueue_lab.drill.scene import Scene
from genqueue_lab.drill.stage import Setting
from genqueue_lab.emulator import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.report import Report
    from genqueue_lab.fault_proxy import Command, FaultProxy, Where

#: Share of the commands that are struck, of each kind. A worker sends some hundreds a second.
SHARES: Final[dict[Where, float]] = {"after": 0.004, "before": 0.002, "inside": 0.002}

#: Of the answers.
PACE: Final = Pace(ttft=0.2, tpot=0.05, tokens=30)

#: Settings of the workers.
WORKER: Final[Mapping[str, float]] = {"SLOTS": 100, "LEASE_OTHER": 6}

#: Workers, each by way of a proxy of its own.
WORKERS: Final = 2

#: Cuts without which the drill says nothing.
ENOUGH: Final = 20

#: Seconds in which something has to end.
PATIENCE: Final = 25.0


@dataclass(frozen=True, slots=True)
class _Size:
    jobs: int
    seconds: float


_FULL: Final = _Size(jobs=1000, seconds=60.0)
_QUICK: Final = _Size(jobs=120, seconds=12.0)


class Dice:
    """Strikes a share of the commands, and counts.

    Args:
        share: of the commands.
        seed: of what is drawn.

    Attributes:
        struck: how many so far.
    """

    def __init__(self, share: float, seed: str) -> None:
        self.struck = 0
        self._share = share
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._lock = threading.Lock()

    def __call__(self, _command: Command) -> bool:
        """Return whether this one is struck."""
        with self._lock:
            strikes = self._chance.random() < self._share
            self.struck += strikes
        return strikes


def run(plan: Plan) -> Report:
    """Lose replies, commands and halves of replies for a while."""
    size = _QUICK if plan.quick else _FULL
    setting = Setting(
        pace=PACE,
        worker=WORKER,
        without="fence" if plan.control else None,
    )
    with Scene("cut", plan, setting, proxied=True) as scene:
        scene.say(f"starting {WORKERS} workers")
        proxies = [scene.stage.proxy() for _ in range(WORKERS)]
        for worker in [scene.stage.hire(proxy) for proxy in proxies]:
            worker.wait_ready()
        front = [] if scene.proxy is None else [scene.proxy]
        dice = _cut([*proxies, *front], plan.seed)
        scene.say("cutting")
        scene.load.begin(size.jobs, size.seconds)
        scene.load.finish()
        findings = scene.audit(PATIENCE)
        for one in dice:
            one.lift()
        cuts = sum(one.dice.struck for one in dice)
        claims = [
            happened("enough was cut", cuts >= ENOUGH, f"{cuts} cuts, expected at least {ENOUGH}"),
            *scene.claims(),
            claim("completed = accepted", findings.all_completed, findings.ended.get("completed", 0)),
        ]
        return scene.report(claims, figures={"cuts": cuts, "uncertain_submits": scene.load.uncertain})


@dataclass(frozen=True, slots=True)
class _Cutting:
    dice: Dice
    lift: Callable[[], object]


def _cut(proxies: Sequence[FaultProxy], seed: int) -> list[_Cutting]:
    made = []
    for number, proxy in enumerate(proxies):
        for where, share in SHARES.items():
            dice = Dice(share, f"{seed} {number} {where}")
            made.append(_Cutting(dice, proxy.fault(where, dice, times=None).lift))
    return made
