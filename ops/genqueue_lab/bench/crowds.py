"""Many live streams of one series: a process that asks for them, and how often those it watches show something.

Watched streams are followed to their end by the series' own readers. The others are as alive, but nobody spends this
core on them: what rings for them is read and thrown away.
"""

from __future__ import annotations

import asyncio
import gc
import math
import multiprocessing
import time
import traceback
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.connection import Connection

#: Seconds an order may take beyond the time it says.
PATIENCE: Final = 60.0

#: Different questions: the emulator remembers what it said to so many, and then answers at no cost.
QUESTIONS: Final = 50

#: Seconds between two looks at how late the loop turns.
TURN: Final = 0.01

#: Seconds between two portions of streams.
PORTION: Final = 0.02


class Side(Protocol):
    """One way to answers."""

    def follow(self, prompt: str) -> AsyncGenerator[object, None]:
        """Ask, and yield once for each delta as it comes."""
        ...

    async def start(self, prompts: Sequence[str]) -> None:
        """Ask for streams that nobody watches; returns once they are asked for."""
        ...

    async def whole(self, tokens: int) -> int:
        """Return how many of the streams that nobody watches have all their deltas and a good end."""
        ...

    async def call_off(self) -> None:
        """End every stream that nobody watches."""
        ...


Opening = "Callable[[dict[str, Any]], AbstractAsyncContextManager[Side]]"


@dataclass(slots=True, eq=False)
class _Watch:
    """One stream that is watched."""

    last: float = 0.0
    deltas: int = 0


@dataclass(slots=True)
class Window:
    """What was seen of the watched streams within some time.

    Attributes:
        gaps: seconds between two deltas of a stream; at the end, since the last one when that is long ago already.
        deltas: how many came.
        streams: streams that were watched and had begun.
        delays: seconds by which this process's loop turned too late, looked at every few milliseconds.
    """

    gaps: list[float] = field(default_factory=list)
    deltas: int = 0
    streams: int = 0
    delays: list[float] = field(default_factory=list)


class _Lookout:
    """Follows the watched streams of a side."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: set[_Watch] = set()
        self._window: Window | None = None
        self._moved = asyncio.Event()
        self.asked = self.begun = 0
        self.ends: list[int | str] = []

    async def reached(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return whether something about the beginnings and ends comes true within some seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._moved.clear()
                    await self._moved.wait()
        return condition()

    def watch(self, prompt: str) -> None:
        """Follow one stream."""
        self.asked += 1
        task = asyncio.create_task(self._follow(prompt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, prompt: str) -> None:
        watch = _Watch()
        try:
            async with aclosing(self._side.follow(prompt)) as deltas:
                async for _ in deltas:
                    self._note(watch, time.monotonic())
            self.ends.append(watch.deltas)
        except Exception as error:  # noqa: BLE001 - every side has its own, and each is told
            self.ends.append(f"{type(error).__name__}: {error}"[:300])
        finally:
            self._live.discard(watch)
            self._moved.set()

    def _note(self, watch: _Watch, now: float) -> None:
        watch.deltas += 1
        if watch.deltas == 1:
            self.begun += 1
            self._live.add(watch)
            self._moved.set()
        if (window := self._window) is not None:
            window.deltas += 1
            if watch.last:
                window.gaps.append(now - watch.last)
        watch.last = now

    async def window(self, seconds: float, usual: float) -> Window:
        """Record for some seconds; a stream that has been silent for longer than is usual counts with that."""
        self._window = window = Window()
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = min(end, now + TURN)
            await asyncio.sleep(due - now)
            window.delays.append(max(0.0, time.monotonic() - due))
        self._window = None
        window.gaps += [now - watch.last for watch in self._live if now - watch.last > usual]
        window.streams = len(self._live)
        return window

    async def call_off(self) -> None:
        """Follow none any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.asked = self.begun = 0
        self.ends.clear()


def serve(pipe: Connection, opening: Callable[..., AbstractAsyncContextManager[Side]], config: dict[str, Any]) -> None:
    """Do what comes through a pipe, until it ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(pipe, opening, config))


async def _serve(pipe: Connection, opening: Any, config: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(opening(config))
        orders = _Orders(side)
        gc.collect()
        gc.freeze()
        pipe.send(("ready", None))
        while True:
            try:
                word, *values = await asyncio.to_thread(pipe.recv)
            except EOFError:
                return
            try:
                pipe.send((word, await getattr(orders, word)(*values)))
            except Exception:  # noqa: BLE001 - whoever gave the order is told
                pipe.send(("failed", traceback.format_exc()))


class _Orders:
    """What a crowd can be told."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._lookout = _Lookout(side)
        self._number = 0

    async def ask(self, count: int, watched: int, seconds: float) -> None:
        """Ask for so many streams, evenly over some seconds, some of them watched."""
        began, portions = time.monotonic(), max(1, min(count, round(seconds / PORTION)))
        asked = seen = 0
        for number in range(1, portions + 1):
            await asyncio.sleep(max(0.0, began + (number - 1) * seconds / portions - time.monotonic()))
            portion = self._prompts(count * number // portions - asked)
            asked += len(portion)
            eyes = watched * number // portions - seen
            seen += eyes
            for prompt in portion[:eyes]:
                self._lookout.watch(prompt)
            if portion[eyes:]:
                await self._side.start(portion[eyes:])

    async def begun(self, seconds: float) -> bool:
        """Return whether all that are watched have begun within some seconds; raises RuntimeError when one failed."""
        lookout = self._lookout
        done = await lookout.reached(lambda: lookout.begun >= lookout.asked or bool(self._failed()), seconds)
        if failed := self._failed():
            raise RuntimeError(f"{len(failed)} streams failed, the first with: {failed[0]}")
        return done

    async def window(self, seconds: float, usual: float) -> Window:
        """Return what was seen within some seconds."""
        return await self._lookout.window(seconds, usual)

    async def ended(self, seconds: float) -> bool:
        """Return whether all that are watched have ended within some seconds."""
        lookout = self._lookout
        return await lookout.reached(lambda: len(lookout.ends) >= lookout.asked, seconds)

    async def whole(self, tokens: int) -> int:
        """Return how many streams were whole, watched or not."""
        return self._lookout.ends.count(tokens) + await self._side.whole(tokens)

    async def call_off(self) -> None:
        """End all streams."""
        await self._lookout.call_off()
        await self._side.call_off()
        gc.collect()

    def _failed(self) -> list[str]:
        return [end for end in self._lookout.ends if isinstance(end, str)]

    def _prompts(self, count: int) -> list[str]:
        first, self._number = self._number, self._number + count
        return [f"question {number % QUESTIONS}" for number in range(first, first + count)]


class Crowd:
    """The process of a crowd; a context manager. Start it on the core where it belongs.

    Args:
        name: of the side.
        opening: opens the side in the process, from the config.
        config: what the side needs to know.
    """

    def __init__(self, name: str, opening: Any, config: dict[str, Any]) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self._theirs, opening, config), daemon=True)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def __enter__(self) -> Self:
        self._process.start()
        self._answer("ready", PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._theirs.close()

    def tell(self, word: str, *values: float) -> Any:
        """Give an order and return its answer; raises RuntimeError when it fails or takes too long."""
        self._pipe.send((word, *values))
        return self._answer(word, 2 * PATIENCE + sum(value for value in values if value < math.inf))

    def _answer(self, word: str, patience: float) -> Any:
        if not self._pipe.poll(patience):
            raise RuntimeError(f"{self.name}: no answer to {word!r} within {patience:g} s")
        said, value = self._pipe.recv()
        if said != word:
            raise RuntimeError(f"{self.name}: {word!r} failed:\n{value}")
        return value
