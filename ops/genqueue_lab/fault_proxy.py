"""A TCP proxy in front of a Redis server that loses what it is told to lose.

It passes whole commands and whole replies on, so a fault strikes exactly the command it was made for: before the
server has seen it, or after the server has done it and before its caller knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from genqueue_lab.resp import arguments_of, is_pushed, read_value

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from genqueue.scripts import Script

Command = tuple[bytes, ...]
Matching = Callable[[Command], bool]

#: before: the command never reaches the server. after: the server has done it, the reply is lost. inside: half of the
#: reply comes. All three end the connection. stall: the server has done it and the reply does not come.
Where = Literal["before", "after", "inside", "stall"]

#: Largest command or reply that passes, in bytes.
_LIMIT: Final = 64 * 1024 * 1024


def everything(_command: Command) -> bool:
    """Match every command."""
    return True


def running(script: Script) -> Matching:
    """Return what matches the calls of a script."""
    sha = script.sha.encode()
    return lambda command: command[0] == b"EVALSHA" and command[1] == sha


@dataclass(eq=False)
class Fault:
    """One fault that strikes some commands.

    Attributes:
        where: what is lost.
        matching: which commands it is for.
        skip: how many of them pass first.
        times: how many it strikes then; None strikes all.
        struck: set when it has struck for the first time.
    """

    where: Where
    matching: Matching
    skip: int = 0
    times: int | None = 1
    struck: threading.Event = field(default_factory=threading.Event)

    def strikes(self, command: Command) -> bool:
        """Return whether this command is one of them, and count it."""
        if self.times == 0 or not self.matching(command):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def lift(self) -> None:
        """Strike no more."""
        self.times = 0


class FaultProxy:
    """Listens on a port of its own and passes on to a server; a context manager.

    Faults may be made from any thread, at any time. Of several that match a command, the oldest strikes.

    Args:
        port: the server's port on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._faults: list[Fault] = []
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0

    def url(self, database: int = 0) -> str:
        """Return the URL of a database of the server, by way of the proxy."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def fault(self, where: Where, matching: Matching = everything, *, skip: int = 0, times: int | None = 1) -> Fault:
        """Make a fault; see Fault."""
        made = Fault(where, matching, skip, times)
        self._faults.append(made)
        return made

    def delay(self, seconds: float) -> None:
        """Hold every reply back for some seconds from now on."""
        self._delay = seconds

    def hold(self) -> None:
        """Pass nothing on, in either direction, until `release`; what comes is kept and passed on then."""
        self._call(self._hold)

    def release(self) -> None:
        """Pass everything on again, what was held first."""
        self._call(self._release)

    def lead_to(self, port: int) -> None:
        """Pass connections made from now on to another server; those that there are stay."""
        self._upstream = port

    def cut(self) -> None:
        """End every connection that there is now."""
        self._call(self._cut)

    def striking(self, command: Command) -> Fault | None:
        """Return the fault that strikes a command."""
        return next((fault for fault in self._faults if fault.strikes(command)), None)

    async def opened(self) -> None:
        """Wait while nothing passes."""
        await self._open.wait()

    async def pause(self) -> None:
        """Wait for as long as replies are held back."""
        await self.opened()
        if self._delay:
            await asyncio.sleep(self._delay)

    async def _hold(self) -> None:
        self._open.clear()

    async def _release(self) -> None:
        self._open.set()

    async def _cut(self) -> None:
        for link in tuple(self._links):
            link.end()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_LIMIT, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream, limit=_LIMIT)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def _close(self) -> None:
        assert self._listener is not None  # noqa: S101 - for the type checker: it was started
        self._listener.close()
        await self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _call(self, making: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(making(), self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Link:
    """One client's connection and its own to the server."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: tuple[StreamReader, StreamWriter],
        server: tuple[StreamReader, StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client, self._to_client = client
        self._server, self._to_server = server
        self._asked: deque[Fault | None] = deque()

    async def run(self) -> None:
        """Pass commands and replies on until either side ends or a fault strikes."""
        pumps = [asyncio.ensure_future(self._commands()), asyncio.ensure_future(self._replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.end()

    async def _commands(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                command = await read_value(self._client)
                fault = self._proxy.striking(arguments_of(command))
                if fault is not None and fault.where == "before":
                    fault.struck.set()
                    return
                await self._proxy.opened()
                self._asked.append(fault)
                self._to_server.write(command)
                await self._to_server.drain()

    async def _replies(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                reply = await read_value(self._server)
                fault = None if is_pushed(reply) or not self._asked else self._asked.popleft()
                await self._proxy.pause()
                if fault is not None:
                    return await self._strike(fault, reply)
                self._to_client.write(reply)
                await self._to_client.drain()

    async def _strike(self, fault: Fault, reply: bytes) -> None:
        if fault.where == "inside":
            self._to_client.write(reply[: len(reply) // 2])
            await self._to_client.drain()
        fault.struck.set()
        if fault.where == "stall":
            await asyncio.Event().wait()  # until the client gives up, or the link is cut

    def end(self) -> None:
        """End both connections."""
        for writer in (self._to_client, self._to_server):
            writer.close()
