"""The I/O an operation may ask for. Operations are generators of these; the two clients carry them out.

An operation yields a step and is sent its reply; a step that fails is thrown into it as `ServerUnavailable`. So each
operation is written once, for the blocking and for the asyncio client, and tested without either.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from genqueue.events import Event
    from genqueue.ledger import Publication
    from genqueue.scripts import Call

T = TypeVar("T")

#: Seconds one blocking read of a stream waits at most.
BLOCK: Final = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """Run a script; the reply is the script's."""

    call: Call


@dataclass(frozen=True, slots=True)
class Query:
    """Send plain commands in one round trip; the reply is the list of theirs."""

    commands: tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Read a stream's entries behind an id, waiting up to `seconds` for the first; the reply is a list of entries."""

    stream: str
    after: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Ring the broker for a flight. Never fails: what the broker does not get, the sweep publishes again."""

    publication: Publication


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for some seconds."""

    seconds: float


Step = Run | Query | Wait | Publish | Pause
Operation = Generator[Step, Any, T]
#: An operation that also yields events; whoever carries it out hands them on, or drops them.
Tailing = Generator["Step | Event", Any, T]
