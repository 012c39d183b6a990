"""Carrying out steps on a server in memory, with blocking calls and on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from genqueue.connections import AsyncConnection, BlockingConnection
from genqueue.deployment import Deployment
from genqueue.errors import ServerUnavailable
from genqueue.steps import Hear, Listen, Pause

if TYPE_CHECKING:
    from genqueue.steps import Step
    from genqueue.testing.server import MemoryServer


class MemoryDeployment(Deployment):
    """A deployment whose clock a test may move."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server.keys)
        self._server = server

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        return self._server.now()


class MemoryConnection(BlockingConnection):
    """Carries out operations on a server in memory with blocking calls."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server.settings)
        self.deployment = MemoryDeployment(server)
        self._memory = server

    def _execute(self, step: Step) -> Any:
        try:
            match step:
                case Listen():
                    return self._memory.listen(step, threading.Event())
                case Hear(inbox, seconds):
                    inbox.signal.wait(seconds)
                    return inbox.take()
                case Pause(seconds):
                    return time.sleep(seconds)
                case _:
                    return self._memory.execute(step)
        except ServerUnavailable as away:  # a blob store, which may be a real one
            return away


class LoopSignal:
    """An event of asyncio that any thread may set; made on its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake whoever waits."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Let the next one wait."""
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        """Return when it is set, at the latest after some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()


class AsyncMemoryConnection(AsyncConnection):
    """Carries out operations on a server in memory, on the running event loop."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(server.settings)
        self.deployment = MemoryDeployment(server)
        self._memory = server

    async def _carry_out(self, step: Step) -> Any:
        await asyncio.sleep(0)  # others run in between, as they would
        try:
            match step:
                case Listen():
                    return self._memory.listen(step, LoopSignal())
                case Hear(inbox, seconds):
                    await inbox.signal.wait(seconds)
                    return inbox.take()
                case Pause(seconds):
                    return await asyncio.sleep(seconds)
                case _:
                    return self._memory.execute(step)
        except ServerUnavailable as away:  # a blob store, which may be a real one
            return away
