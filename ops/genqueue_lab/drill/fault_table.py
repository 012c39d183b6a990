"""What becomes of a job for each fault of the provider: the table `ops/retries.md` shows and `drill faults` checks.

`python -m genqueue_lab.drill.fault_table` prints it as Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Moment = Literal["before", "after"]

#: Limits of the drill's workers, in seconds, and a start that is slow but no stall.
FIRST_TOKEN: Final = 1.5
TOKEN: Final = 1.0
SLOW_START: Final = 0.5

#: Seconds that the provider tells clients to wait.
TOLD: Final = 1.5
TOLD_BY_HEADER: Final = 2.0

COMPLETED: Final = "completed"
SENT_AGAIN: Final = "sent again"


def retry(code: str) -> str:
    """Return the outcome of a job that is tried again, once, and completes."""
    return f"retry `{code}`"


def failed(code: str) -> str:
    """Return the outcome of a job that is not tried again."""
    return f"failed `{code}`"


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and what becomes of a job whose first request it strikes.

    Attributes:
        name: short, for the prompts and the drill's table.
        what: it in words, Markdown.
        rule: of the emulator, without `match` and `after`.
        before, after: what becomes of it when the fault strikes before and after the first delta; None when it
            cannot strike then.
        alone: it strikes whole connections, and so must not have neighbours.
        floor: seconds the next try waits at least.
    """

    name: str
    what: str
    rule: Mapping[str, Any] = field(repr=False)
    before: str | None
    after: str | None
    alone: bool = False
    floor: float = 0.0

    @property
    def moments(self) -> tuple[Moment, ...]:
        """When it can strike."""
        moments: tuple[Moment, ...] = ("before", "after")
        return tuple(moment for moment in moments if self.expected(moment))

    @property
    def retried(self) -> bool:
        """Whether a job that it strikes before the first delta is tried again."""
        return self.expected("before").startswith("retry")

    def expected(self, moment: Moment) -> str:
        """Return what becomes of it at a moment; "" when it cannot strike then."""
        return (self.before if moment == "before" else self.after) or ""


def _both(name: str, what: str, rule: Mapping[str, Any], outcome: str, **more: Any) -> Case:
    return Case(name, what, rule, outcome, outcome, **more)


def _status(status: int, said: str, outcome: str, floor: float = 0.0, **more: Any) -> Case:
    return Case(
        f"status {said}", f"status {said}", {"kind": "status", "status": status, **more}, outcome, None, floor=floor
    )


def _streams() -> Iterable[Case]:
    """Faults of one stream."""
    yield _both("reset", "`RST_STREAM`", {"kind": "reset"}, retry("protocol_error"))
    yield Case(
        "refused",
        "`RST_STREAM` with `REFUSED_STREAM`",
        {"kind": "reset", "code": "REFUSED_STREAM"},
        SENT_AGAIN,
        retry("protocol_error"),
    )
    yield Case("silence", "no answer at all", {"kind": "silence"}, retry("first_token_timeout"), None)
    yield Case(
        "stall", "the stream falls silent", {"kind": "stall"}, retry("first_token_timeout"), retry("token_timeout")
    )
    yield Case(
        "slow start", "a late start, within the limit", {"kind": "slow_start", "seconds": SLOW_START}, COMPLETED, None
    )
    yield _both("truncated JSON", "the body ends inside of a chunk", {"kind": "truncate"}, retry("truncated_stream"))
    yield _both(
        "truncated", "the body ends between chunks", {"kind": "truncate", "whole": True}, retry("truncated_stream")
    )
    yield _both("split JSON", "chunks in pieces", {"kind": "split_json"}, COMPLETED)
    yield _both(
        "429 in stream",
        "429 inside of the stream, with RetryInfo",
        {"kind": "error_in_stream", "status": 429, "retry_info": TOLD},
        retry("RESOURCE_EXHAUSTED"),
        floor=TOLD,
    )
    yield _both(
        "503 in stream",
        "503 inside of the stream, as an event",
        {"kind": "error_in_stream", "status": 503, "data": True},
        retry("UNAVAILABLE"),
    )
    yield _both(
        "400 in stream",
        "400 inside of the stream",
        {"kind": "error_in_stream", "status": 400},
        failed("INVALID_ARGUMENT"),
    )


def _statuses() -> Iterable[Case]:
    """Answers that are errors."""
    yield _status(408, "408", retry("HTTP_408"))
    yield _status(429, "429", retry("RESOURCE_EXHAUSTED"))
    yield _status(429, "429 with RetryInfo", retry("RESOURCE_EXHAUSTED"), TOLD, retry_info=TOLD)
    yield _status(429, "429 with Retry-After", retry("RESOURCE_EXHAUSTED"), TOLD_BY_HEADER, retry_after=TOLD_BY_HEADER)
    yield _status(500, "500", retry("INTERNAL"))
    yield _status(502, "502", retry("HTTP_502"))
    yield _status(503, "503", retry("UNAVAILABLE"))
    yield _status(504, "504", retry("DEADLINE_EXCEEDED"))
    yield _status(400, "400", failed("INVALID_ARGUMENT"))
    yield _status(401, "401", failed("UNAUTHENTICATED"))
    yield _status(404, "404", failed("NOT_FOUND"))
    yield Case("region", "403 for the region", {"kind": "region_forbidden"}, failed("PERMISSION_DENIED"), None)


def _connections() -> Iterable[Case]:
    """Faults of whole connections."""
    calm = {"kind": "goaway", "code": "ENHANCE_YOUR_CALM", "last_stream": "before", "graceful": True}
    unseen = {"kind": "goaway", "last_stream": "before", "graceful": True}
    yield _both("goaway", "`GOAWAY`, and the end at once", {"kind": "goaway"}, retry("connection_lost"), alone=True)
    yield _both(
        "graceful goaway",
        "`GOAWAY` that lets streams end",
        {"kind": "goaway", "last_stream": "all", "graceful": True},
        COMPLETED,
        alone=True,
    )
    yield Case(
        "goaway unseen", "`GOAWAY` that leaves the stream out", unseen, SENT_AGAIN, retry("protocol_error"), alone=True
    )
    yield _both("goaway calm", "`GOAWAY` with `ENHANCE_YOUR_CALM`", calm, retry("protocol_error"), alone=True)
    yield _both(
        "disconnect", "the connection ends", {"kind": "disconnect", "tcp": "fin"}, retry("connection_lost"), alone=True
    )
    yield _both(
        "connection reset",
        "the connection is reset",
        {"kind": "disconnect", "tcp": "rst"},
        retry("connection_lost"),
        alone=True,
    )


CASES: Final = (*_streams(), *_statuses(), *_connections())


def markdown() -> str:
    """Return the table as the document shows it."""
    rows = (f"| {case.what} | {case.before or ''} | {case.after or ''} |" for case in CASES)
    return "\n".join(["| fault | before the first delta | after it |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
