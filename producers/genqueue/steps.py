"""The I/O an operation may ask for. Operations are generators of these; the two clients carry them out.

An operation yields a step and is sent its reply; a step that fails is thrown into it as `ServerUnavailable`. So each
operation is written once, for the blocking and for the asyncio client, and tested without either.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from genqueue.events import Event
    from genqueue.ledger import Publication
    from genqueue.reading.bells import Inbox
    from genqueue.scripts import Call

T = TypeVar("T")
Y = TypeVar("Y")


class Step:
    """Some I/O."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Run(Step):
    """Run a script; the reply is the script's."""

    call: Call


@dataclass(frozen=True, slots=True)
class RunMany(Step):
    """Run scripts in one round trip; the reply is the list of theirs, an exception where the server refused one.

    Attributes:
        meanwhile: what may be done while the server is at it, and never fails; not called where nothing is sent, or
            where there is no waiting.
    """

    calls: tuple[Call, ...]
    meanwhile: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Query(Step):
    """Send plain commands in one round trip; the reply is the list of theirs."""

    commands: tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True, slots=True)
class Read(Step):
    """As a query, on connections apart: whoever catches up with long streams holds up no submit."""

    commands: tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True, slots=True)
class Listen(Step):
    """Listen to channels; the reply is an inbox in which rings arrive from now on. Close it.

    With `ends_only`, rings that end nobody's reading are left out.
    """

    channels: tuple[str, ...]
    ends_only: bool = False


@dataclass(frozen=True, slots=True)
class Hear(Step):
    """Wait for something to come into an inbox, up to some seconds; the reply is what came. Never fails."""

    inbox: Inbox
    seconds: float


@dataclass(frozen=True, slots=True)
class Publish(Step):
    """Ring the broker for flights. Never fails: what the broker does not get, the sweep publishes again."""

    publications: tuple[Publication, ...]


@dataclass(frozen=True, slots=True)
class Work(Step):
    """Call what blocks, such as a blob store; the reply is what it returns, or the ServerUnavailable it raises."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Pause(Step):
    """Do nothing for some seconds."""

    seconds: float


Operation = Generator[Step, Any, T]
#: An operation that also yields what is for its reader; whoever carries it out hands that on, or drops it.
Following = Generator[Step | Y, Any, T]
#: An operation that also yields events.
Tailing = Generator["Step | Event", Any, T]
