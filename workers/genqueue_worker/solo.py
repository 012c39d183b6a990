"""Flights that were aboard when workers were lost, twice: each runs alone, in a process of its own.

Then it is seen which of them ends its process. The others go on meanwhile, in this one: nothing is drained, and what
the suspect does, to its memory too, it does to itself. When this process dies its suspects are handed back at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pydantic import SecretStr

from genqueue_worker import cancellation
from genqueue_worker.cancellation import through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from genqueue_worker.cancellation import Reason
    from genqueue_worker.settings import WorkerSettings
    from genqueue_worker.telemetry import Telemetry

log = logging.getLogger("genqueue.solo")


class Ended(NamedTuple):
    """How a process for one flight ended.

    Attributes:
        word: its outcome in a word, for Celery and Flower.
        outcome: what it counts as.
        dead: "dead" when it made a dead letter, else "".
    """

    word: str
    outcome: str
    dead: str = ""


#: Of a flight whose process was lost; its lease says so to the ledger.
LOST: Final = Ended("lost", "lost")

#: Outcome of a message whose flight waits for its process to claim it already, over another message.
DOUBLE: Final = "double"

#: Seconds after which a flight that waits for room is asked for again: twice within the time (2.5 s) that the ledger
#: waits for its claim.
REMINDER: Final = 1.0

#: Asks what became of a flight; None while it still waits to run alone.
Settled = Callable[[], Awaitable["str | None"]]

_MODULE: Final = "genqueue_worker.nursery"


class Process(Protocol):
    """A process that forks for a worker, which writes to its input and reads its output."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """Its input."""
        ...

    @property
    def stdout(self) -> IO[bytes] | None:
        """Its output."""
        ...

    def wait(self) -> int:
        """Wait for its end."""
        ...


class Solo:
    """Runs flights in processes of their own, at most `settings.suspects` at once.

    Belongs to one event loop. Without a `nursery` that the worker forked when it had no threads yet, or when that died,
    one is started with the first flight.
    """

    def __init__(self, settings: WorkerSettings, telemetry: Telemetry, nursery: Process | None = None) -> None:
        self._settings = settings
        self._forked = nursery
        self._telemetry = telemetry
        self._room = asyncio.Semaphore(settings.suspects)
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: set[str] = set()
        self._nurseries: list[_Nursery] = []

    async def run(self, flight: str, stamp: int, settled: Settled) -> str:
        """Run a flight alone and return its outcome in a word; a cancellation reaches it with its reason.

        Args:
            flight: its id.
            stamp: that of the message.
            settled: asks the ledger, while the flight waits for room, and returns what became of it elsewhere.
        """
        if flight in self._waiting:
            # Nobody has claimed it yet, so the sweep took its message for lost; the one that came first is as good.
            return DOUBLE
        async with self._room_for(flight, settled) as elsewhere:
            if elsewhere is not None:
                return elsewhere
            number = next(self._numbers)
            nursery, ended = await self._start(number, flight, stamp)
            log.info("solo.started flight=%s; workers were lost with it aboard, so it runs alone", flight)
            cut: asyncio.CancelledError | None = None
            while not ended.done():
                try:
                    await asyncio.shield(ended)
                except asyncio.CancelledError as cancelled:
                    cut = cancelled
                    nursery.end(number, cancellation.reason() or cancellation.SHUTDOWN)
            word, outcome, dead = ended.result()
        self._telemetry.suspect(outcome, dead=bool(dead))
        if outcome == LOST.outcome:
            log.warning(
                "solo.lost flight=%s; its process died, or never began: lost alone twice it is a dead letter", flight
            )
        if cut is not None:
            raise cut
        return word

    @asynccontextmanager
    async def _room_for(self, flight: str, settled: Settled) -> AsyncIterator[str | None]:
        """Wait for room, and have it while the block runs; gives what became of the flight meanwhile, if anything."""
        self._waiting.add(flight)
        try:
            at_once = not self._room.locked()
            while not await self._entered():
                if (elsewhere := await settled()) is not None:
                    yield elsewhere
                    return
            try:
                yield None if at_once else await settled()
            finally:
                self._room.release()
        finally:
            self._waiting.discard(flight)

    async def _entered(self) -> bool:
        """Wait for room, and return whether there is any yet."""
        try:
            async with asyncio.timeout(REMINDER):
                return await self._room.acquire()
        except TimeoutError:
            return False

    async def aclose(self) -> None:
        """End the nursery; what still runs is handed back."""
        if self._forked is not None:
            await self._replace()
        for nursery in self._nurseries:
            await nursery.close()

    async def _start(self, number: int, flight: str, stamp: int) -> tuple[_Nursery, asyncio.Future[Ended]]:
        """Start a process for a flight; a nursery that turns out to be dead is replaced once."""

        def claimed() -> None:
            self._waiting.discard(flight)

        nursery = await self._living()
        ended = nursery.run(number, flight, stamp, claimed)
        if nursery.gone:
            nursery = await self._living()
            ended = nursery.run(number, flight, stamp, claimed)
        return nursery, ended

    async def _living(self) -> _Nursery:
        """Return a nursery that takes flights; of one that died, processes may go on for a while."""
        async with self._starting:
            self._nurseries = [nursery for nursery in self._nurseries if not nursery.over]
            if not self._nurseries or self._nurseries[-1].gone:
                await through(self._replace())
            return self._nurseries[-1]

    async def _replace(self) -> None:
        forked, self._forked = self._forked, None
        start = _Nursery.attend(forked) if forked is not None else _Nursery.start(self._settings)
        self._nurseries.append(await start)


class _Nursery:
    """The process that forks, as this one sees it.

    Attributes:
        gone: whether it takes no more flights.
    """

    def __init__(self, process: Process, lines: asyncio.StreamReader) -> None:
        self.gone = False
        self._process = process
        self._commands: IO[bytes] = process.stdin  # type: ignore[assignment] # it was asked for
        self._running: dict[int, asyncio.Future[Ended]] = {}
        self._unclaimed: dict[int, Callable[[], None]] = {}
        self._listening = asyncio.create_task(self._listen(lines))

    @classmethod
    async def start(cls, settings: WorkerSettings) -> _Nursery:
        """Start the process and tell it the settings."""
        nursery = await cls.attend(await asyncio.to_thread(_spawn))
        started = {"level": logging.getLogger().getEffectiveLevel(), "settings": plain(settings)}
        nursery._say(json.dumps(started))  # noqa: SLF001 - its own
        return nursery

    @classmethod
    async def attend(cls, process: Process) -> _Nursery:
        """Listen to a process that knows the settings."""
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), process.stdout)
        return cls(process, lines)

    @property
    def over(self) -> bool:
        """Whether nothing of it is left."""
        return self._listening.done()

    def run(self, number: int, flight: str, stamp: int, claimed: Callable[[], None]) -> asyncio.Future[Ended]:
        """Run a flight and return how that will have ended; `claimed` is called when its process has claimed it."""
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._say(f"run {number} {flight} {stamp}")
        if self.gone:
            ended.set_result(LOST)
        else:
            self._running[number] = ended
            self._unclaimed[number] = claimed
        return ended

    def end(self, number: int, reason: Reason) -> None:
        """Tell a flight's process to end, and why."""
        if number in self._running:
            self._say(f"end {number} {reason}")

    async def close(self) -> None:
        """End it, and what it runs."""
        with suppress(OSError):
            self._commands.close()
        await self._listening

    def _say(self, line: str) -> None:
        try:
            self._commands.write(line.encode() + b"\n")
            self._commands.flush()
        except (OSError, ValueError):  # it died, or is closed
            self.gone = True

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        """Take what is told until nobody is left who could tell: neither it nor a process of its."""
        async for line in lines:
            how, number, *rest = line.decode().split()
            self._hear(how, int(number), rest)
        self.gone = True
        for ended in self._running.values():
            ended.set_result(LOST)
        with suppress(OSError):
            self._commands.close()
        await asyncio.to_thread(self._process.wait)

    def _hear(self, how: str, number: int, rest: list[str]) -> None:
        claimed = self._unclaimed.pop(number, None)
        if how == "claimed":
            if claimed is not None:
                claimed()
            return
        ended = self._running.pop(number, None)
        if ended is not None:
            ended.set_result(Ended(*rest) if how == "ended" else LOST)


def _spawn() -> subprocess.Popen[bytes]:
    # Away from a terminal's Ctrl-C, which is meant for the worker.
    command = [sys.executable, "-P", "-m", _MODULE]  # -P: no file of the current directory stands in for a module
    return subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def plain(settings: WorkerSettings) -> dict[str, Any]:
    """Return settings as JSON values from which they can be made again, secrets among them: for a pipe only."""
    return {name: _plain(getattr(settings, name)) for name in type(settings).model_fields}


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
