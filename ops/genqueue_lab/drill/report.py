"""What a drill found, and the verdict on it."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genqueue_lab.bench.verdict import Verdict, together

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from genqueue_lab.drill.audit import Findings
    from genqueue_lab.drill.plan import Plan
    from genqueue_lab.drill.readers import Tally

#: Sentences of one kind that are shown; the rest are counted.
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the drill claims, and whether it held.

    Attributes:
        what: the claim in words.
        verdict: on it.
        found: what was found, in words.
    """

    what: str
    verdict: Verdict
    found: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One run of a drill.

    Attributes:
        drill: its name.
        mode: "full" or "quick".
        control: whether the mechanism under test was switched off.
        seed: of what was drawn.
        accepted: jobs that were accepted.
        ended: how many ended, by outcome.
        lost: how many did not.
        doubled: flights with more than one terminal event.
        calls: requests that the provider saw.
        duplicate_calls: those beyond one for each accepted job.
        recovery_p50, recovery_max: seconds from the end of a lost lease to the next claim; None without a loss.
        readers, missing, repeated: tails that dropped and resumed at random, and what they were not or doubly shown.
        seconds: how long it took.
        claims: each with its verdict.
        figures: whatever else this drill measured.
        verdict: on all claims.
    """

    drill: str
    mode: str
    control: bool
    seed: int
    accepted: int
    ended: Mapping[str, int]
    lost: int
    doubled: int
    calls: int
    duplicate_calls: int
    recovery_p50: float | None
    recovery_max: float | None
    readers: int
    missing: int
    repeated: int
    seconds: float
    claims: Sequence[Claim]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """It holds when every claim does, and fails when one does."""
        return together(claim.verdict for claim in self.claims)

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {**asdict(self), "verdict": self.verdict}

    def text(self) -> str:
        """Return it as lines for people."""
        ended = ", ".join(f"{count} {outcome}" for outcome, count in self.ended.items()) or "none"
        control = ", control" if self.control else ""
        lines = [
            f"drill {self.drill} ({self.mode}{control}, seed {self.seed}): {self.seconds:.0f} s",
            f"  accepted {self.accepted}; ended: {ended}; lost {self.lost}; doubled terminal events {self.doubled}",
            f"  provider calls {self.calls}, beyond one a job {self.duplicate_calls}",
        ]
        if self.recovery_p50 is not None and self.recovery_max is not None:
            lines.append(f"  lease expiry to claim: p50 {self.recovery_p50:.2f} s, max {self.recovery_max:.2f} s")
        if self.readers:
            lines.append(f"  readers {self.readers}: missing events {self.missing}, repeated {self.repeated}")
        lines += [f"  {name.replace('_', ' ')}: {_number(value)}" for name, value in self.figures.items()]
        for claim in self.claims:
            lines.append(f"  {claim.verdict:>12}  {claim.what}{': ' if claim.found else ''}{claim.found}")
        return "\n".join([*lines, f"verdict: {self.verdict}"])


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def claim(what: str, holds: bool, found: object = "") -> Claim:  # noqa: FBT001 - the value of the claim
    """Return a claim that held or did not."""
    return Claim(what, "holds" if holds else "fails", str(found))


def none_of(what: str, found: Sequence[object]) -> Claim:
    """Return the claim that there is nothing of a kind; shows the first few of what there is."""
    if not found:
        return Claim(what, "holds")
    rest = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Claim(what, "fails", "; ".join(str(one) for one in found[:SHOWN]) + rest)


def happened(what: str, so: bool, why: str) -> Claim:  # noqa: FBT001 - the value of the claim
    """Return the claim that the drill did what it set out to do; without it, it says nothing: `why`."""
    return Claim(what, "holds") if so else Claim(what, "inconclusive", why)


def timely(what: str, seconds: float, limit: float, slow: str) -> Claim:
    """Return the claim that something takes less than a limit; inconclusive on a machine that is too slow: `slow`."""
    if seconds < limit or not slow:
        return claim(what, seconds < limit, f"{seconds:.2f} s")
    return Claim(what, "inconclusive", f"{seconds:.2f} s, but {slow}")


def base_claims(findings: Findings, tally: Tally | None) -> list[Claim]:
    """Return what every drill claims of its jobs."""
    claims = [
        none_of("every accepted job ended", findings.lost),
        none_of("no doubled terminal event", findings.doubled),
        none_of("every stream is sound, and every key but gq:meta has a time to live", findings.faults),
    ]
    if tally is not None:
        claims.append(none_of("readers missed nothing and saw nothing twice", tally.faults))
    return claims


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a drill hands over to be reported.

    Attributes:
        findings: the audit's.
        claims: all of them.
        calls: requests the provider saw.
        recoveries: seconds from lease expiry to claim.
        tally: the readers'; None without readers.
        figures: whatever else was measured.
    """

    findings: Findings
    claims: Sequence[Claim]
    calls: int
    recoveries: Sequence[float] = ()
    tally: Tally | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


def report(drill: str, plan: Plan, seconds: float, outcome: Outcome) -> Report:
    """Return the report on one run."""
    findings, tally, recoveries = outcome.findings, outcome.tally, outcome.recoveries
    return Report(
        drill=drill,
        mode="quick" if plan.quick else "full",
        control=plan.control,
        seed=plan.seed,
        accepted=findings.accepted,
        ended=findings.ended,
        lost=len(findings.lost),
        doubled=len(findings.doubled),
        calls=outcome.calls,
        duplicate_calls=max(0, outcome.calls - findings.accepted),
        recovery_p50=round(statistics.median(recoveries), 3) if recoveries else None,
        recovery_max=round(max(recoveries), 3) if recoveries else None,
        readers=tally.readers if tally else 0,
        missing=tally.missing if tally else 0,
        repeated=tally.repeated if tally else 0,
        seconds=seconds,
        claims=outcome.claims,
        figures=outcome.figures,
    )


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that so large a share does not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
