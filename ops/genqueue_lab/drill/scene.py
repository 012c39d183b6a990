"""One run of a drill: the stage, the load and its readers; afterwards the audit and the report."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from genqueue_lab.drill.audit import audit, wait_ended
from genqueue_lab.drill.load import Load
from genqueue_lab.drill.readers import Readers
from genqueue_lab.drill.report import Outcome, base_claims, none_of, report
from genqueue_lab.drill.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.events import Event
    from genqueue_lab.drill.audit import Findings
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.readers import Tally
    from genqueue_lab.drill.report import Claim, Report
    from genqueue_lab.drill.stage import Setting


class Scene:
    """A stage with a load and readers; a context manager.

    Args:
        name: of the drill.
        plan: of this run.
        setting: of the stage.
        readers: how many tails follow each job, on average.
        proxied: whether clients reach the server by way of a fault proxy.

    Attributes:
        stage: where it plays.
        load: submits jobs.
        readers: follow them.
        proxy: the one clients go through; None without.
        findings, tally: of the audit, once there was one.
    """

    findings: Findings
    tally: Tally

    def __init__(
        self, name: str, plan: Plan, setting: Setting, *, readers: float = 1.0, proxied: bool = False, **options: Any
    ) -> None:
        self.name = name
        self.plan = plan
        self._started = time.monotonic()
        self._share = readers
        self._proxied = proxied
        self._options = options
        self._stack = ExitStack()
        self.stage = Stage(plan, setting)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stage = stack.enter_context(self.stage)
            self.proxy = stage.proxy() if self._proxied else None
            self.readers = stack.enter_context(Readers(stage.settings(self.proxy), self.plan.seed, self._share))
            name = f"drill {self.name} {self.plan.seed}"
            self.load = Load(stage.client(self.proxy), name, self.readers.follow, **self._options)
            stack.callback(self.load.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, line: str) -> None:
        """Tell people how it goes, with the seconds since the start."""
        self.plan.say(f"{self.seconds:6.1f} s  {line}")

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 1)

    def audit(
        self,
        patience: float,
        *,
        rewritten: bool = False,
        copies: Mapping[str, Sequence[Event]] | None = None,
    ) -> Findings:
        """Wait until no job has ended for so many seconds, and audit all of them and what their readers saw.

        Args:
            patience: those seconds.
            rewritten: whether the server lost entries that readers were shown.
            copies: streams as they were at their end, when they expire before the audit.
        """
        self.load.finish()
        accepted = self.load.accepted
        self.say(f"{len(accepted)} jobs accepted; waiting for the last of them")
        if not wait_ended(self.stage, accepted, patience):
            self.say(f"nothing more has ended for {patience:g} s")
        self.findings = audit(self.stage, accepted, copies=copies)
        self.tally = self.readers.tally(self.findings.streams, rewritten=rewritten)
        return self.findings

    def claims(self) -> list[Claim]:
        """Return what every drill claims, after the audit."""
        return [
            *base_claims(self.findings, self.tally),
            none_of("no submit was given up", self.load.refused),
            none_of("no worker ended by itself", [worker.died for worker in self.stage.everybody if worker.died]),
        ]

    def report(
        self, claims: Sequence[Claim], recoveries: Sequence[float] = (), figures: Mapping[str, Any] | None = None
    ) -> Report:
        """Return the report, after the audit."""
        calls = self.stage.calls()
        outcome = Outcome(self.findings, claims, calls, recoveries, self.tally, figures or {})
        return report(self.name, self.plan, self.seconds, outcome)
