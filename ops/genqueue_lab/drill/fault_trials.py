"""The trials of `drill faults`: what became of a job, in the words of the documented table. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genqueue.events import TERMINAL
from genqueue_lab.drill.fault_table import COMPLETED, SENT_AGAIN, failed, retry
from genqueue_lab.emulator.requests import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.events import Event
    from genqueue_lab.drill.fault_table import Case, Moment
    from genqueue_lab.drill.load import Accepted

#: Seconds by which a try may seem early: two clocks are read, in whole milliseconds.
CLOCKS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Trial:
    """A job, the fault that meets it, and what should become of it."""

    case: Case
    moment: Moment
    job: Accepted
    expected: str

    def __str__(self) -> str:
        return f"{self.case.name}, {self.moment} the first delta, {self.job.lane}"


class Rows(list[dict[str, str]]):
    """The table as it was found: a list in JSON, lines for people."""

    def __str__(self) -> str:
        lines = [("fault", "before the first delta", "after it")]
        lines += [(row["fault"], row["before"], row["after"]) for row in self]
        wide = [max(len(line[column]) for line in lines) for column in range(2)]
        return "".join(f"\n    {first:{wide[0]}}  {then:{wide[1]}}  {last}".rstrip() for first, then, last in lines)


def waits_of(events: Sequence[Event]) -> list[str]:
    """Return the codes of a flight's tries that were to be repeated."""
    return [event.fields.get("code", "") for event in events if event.type == "waiting"]


def outcome(events: Sequence[Event], calls: int) -> str:
    """Return what became of a job, in the words of the table; `calls` is how often the provider was asked."""
    waits = waits_of(events)
    end = next((event for event in events if event.type in TERMINAL), None)
    if end is None:
        return "no end"
    if end.type == "failed":
        return failed(end.fields.get("code", "")) + (f" after {len(waits)} retries" if waits else "")
    if end.type != "completed" or len(waits) > 1:
        return f"{end.type} after {', '.join(waits)}"
    if not waits:
        return COMPLETED if calls == 1 else SENT_AGAIN
    continued = ", continued" if any(event.type == "continued" for event in events) else ""
    return retry(waits[0]) + continued


def difference(trial: Trial, events: Sequence[Event], calls: Mapping[str, int]) -> str:
    """Return how a trial differs from what is documented; "" when it does not."""
    asked = calls.get(fingerprint(trial.job.prompt), 0)
    found = outcome(events, asked)
    if found != trial.expected:
        return f"{trial}: {found}, not {trial.expected}"
    if asked != (2 if waits_of(events) or found == SENT_AGAIN else 1):
        return f"{trial}: {found}, with {asked} requests"
    again = any(event.type in {"restarted", "continued"} for event in events)
    shown = trial.moment == "after" and bool(waits_of(events))
    return "" if again == shown else f"{trial}: {'no ' if shown else ''}word of another attempt"


def early(trial: Trial, events: Sequence[Event]) -> str:
    """Return by how much the second try came too early; "" when it did not."""
    waiting = next((_moment(event) for event in events if event.type == "waiting"), None)
    begun = next((_moment(event) for event in events if event.type == "started" and event.attempt > 1), None)
    if not trial.case.floor or waiting is None or begun is None:
        return ""
    waited = begun - waiting
    return "" if waited >= trial.case.floor - CLOCKS else f"{trial}: after {waited:.2f} of {trial.case.floor:g} s"


def rows(trials: Sequence[Trial], streams: Mapping[str, Sequence[Event]], calls: Mapping[str, int]) -> Rows:
    """Return the table as it was found; where jobs differ, all that was found."""
    cells: dict[str, dict[Moment, dict[str, None]]] = {}
    for trial in trials:
        found = outcome(streams[trial.job.flight], calls.get(fingerprint(trial.job.prompt), 0))
        cells.setdefault(trial.case.name, {}).setdefault(trial.moment, {})[found] = None
    return Rows(
        {"fault": name, "before": " | ".join(found.get("before", ())), "after": " | ".join(found.get("after", ()))}
        for name, found in cells.items()
    )


def _moment(event: Event) -> float:
    return int(event.id.partition("-")[0]) / 1000
