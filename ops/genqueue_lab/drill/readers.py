"""Readers of a drill: tails that drop and resume at random, held against the streams at the end."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import uvloop

from genqueue import AsyncClient
from genqueue.errors import GenqueueError
from genqueue.events import TERMINAL, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.events import Event
    from genqueue.settings import Settings
    from genqueue_lab.drill.load import Accepted

#: Most events between two drops, and most seconds until a dropped reader resumes.
EVENTS: Final = 25
AWAY: Final = 0.5

#: Seconds the readers have for what is left when the drill's jobs have ended.
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What the readers saw.

    Attributes:
        readers: how many tails there were.
        missing: entries of the streams they were not shown.
        repeated: entries they were shown twice.
        drops: times one dropped and resumed.
        wait: longest wait of a high-lane reader for its next event, in seconds.
        faults: what went wrong, a sentence each.
    """

    readers: int
    missing: int
    repeated: int
    drops: int
    wait: float
    faults: Sequence[str]


@dataclass(slots=True)
class _Reader:
    job: Accepted
    seen: list[Event] = field(default_factory=list)
    drops: int = 0
    wait: float = 0.0
    error: str = ""

    @property
    def ended(self) -> bool:
        return bool(self.seen) and self.seen[-1].type in TERMINAL


class Readers:
    """Follows jobs on an event loop of its own; a context manager.

    Args:
        settings: of the client.
        seed: of what is drawn.
        share: how many tails follow each job, on average; below 1, some jobs have none.
    """

    def __init__(self, settings: Settings, seed: int, share: float) -> None:
        self._settings = settings
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._share = share
        self._readers: list[_Reader] = []
        self._loop = uvloop.new_event_loop()
        self._done: asyncio.Event
        self._client: AsyncClient
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="readers", daemon=True)
        self._begun = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    def follow(self, job: Accepted) -> None:
        """Set readers on a job; from any thread."""
        whole, rest = divmod(self._share, 1)
        for _ in range(int(whole) + (self._chance.random() < rest)):
            seed = self._chance.random()
            self._loop.call_soon_threadsafe(self._set_on, job, seed)

    def tally(self, streams: Mapping[str, Sequence[Event]], *, rewritten: bool = False) -> Tally:
        """Wait for the readers of streams that have ended, and hold what each saw against them.

        Args:
            streams: as they stand now, by flight.
            rewritten: whether the server lost entries that were shown: then the text has to be right.
        """
        over = {flight for flight, events in streams.items() if any(event.terminal for event in events)}
        readers = [reader for reader in self._readers if reader.job.flight in over]
        give_up = time.monotonic() + PATIENCE
        while not all(reader.ended or reader.error for reader in readers) and time.monotonic() < give_up:
            time.sleep(0.05)
        faults: list[str] = []
        missing = repeated = 0
        for reader in readers:
            stream = streams[reader.job.flight]
            if rewritten:
                faults += _text_faults(reader, stream)
                continue
            shown = [event.id for event in reader.seen]
            lacks, doubles = len({event.id for event in stream} - set(shown)), len(shown) - len(set(shown))
            missing, repeated = missing + lacks, repeated + doubles
            faults += _order_faults(reader, [event.id for event in stream])
        return Tally(
            readers=len(self._readers),
            missing=missing,
            repeated=repeated,
            drops=sum(reader.drops for reader in self._readers),
            wait=max((reader.wait for reader in self._readers if reader.job.lane == "high"), default=0.0),
            faults=faults,
        )

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self._done = asyncio.Event()
        async with AsyncClient(self._settings) as self._client:
            self._begun.set()
            await self._done.wait()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _set_on(self, job: Accepted, seed: float) -> None:
        reader = _Reader(job)
        self._readers.append(reader)
        task = self._loop.create_task(self._read(reader, random.Random(seed)))  # noqa: S311 - no secret
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: _Reader, chance: random.Random) -> None:
        try:
            while not reader.ended:
                await self._look(reader, chance.randint(1, EVENTS), by_id=chance.random() < 0.5)
                if not reader.ended:
                    reader.drops += 1
                    await asyncio.sleep(chance.uniform(0, AWAY))
        except GenqueueError as error:
            reader.error = f"{type(error).__name__}: {error}"

    async def _look(self, reader: _Reader, count: int, *, by_id: bool) -> None:
        """Tail for some events; a web server that resumes knows the id alone, one that keeps on the whole event."""
        last = reader.seen[-1] if reader.seen else None
        after = last.id if last is not None and by_id else last
        since = time.monotonic()
        async with aclosing(self._client.job(reader.job.id).tail(after=after)) as events:
            async for event in events:
                now = time.monotonic()
                reader.wait, since = max(reader.wait, now - since), now
                reader.seen.append(event)
                count -= 1
                if count <= 0:
                    return


def _order_faults(reader: _Reader, stream: Sequence[str]) -> list[str]:
    shown = [event.id for event in reader.seen]
    if shown == list(stream):
        return []
    if reader.error:
        return [f"a reader of {reader.job.id} ended with {reader.error}"]
    at = next((at for at, pair in enumerate(zip(shown, stream, strict=False)) if pair[0] != pair[1]), len(shown))
    return [f"a reader of {reader.job.id} saw {len(shown)} events of {len(stream)}, other ones from number {at + 1} on"]


def _text_faults(reader: _Reader, stream: Sequence[Event]) -> list[str]:
    if reader.error:
        return [f"a reader of {reader.job.id} ended with {reader.error}"]
    right = reader.ended and text_of(reader.seen) == text_of(stream)
    return [] if right else [f"a reader of {reader.job.id} has another text than the stream"]
