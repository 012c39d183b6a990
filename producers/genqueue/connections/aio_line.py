"""The one pub/sub connection of an event loop, and the task that hears it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from genqueue.connections.pulse import BackOff, Pulse
from genqueue.connections.server import AWAY, CLOSED
from genqueue.errors import InfrastructureError
from genqueue.reading.bells import Inbox
from genqueue.reading.switchboard import Switchboard

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from genqueue.connections.server import DataServer

log = logging.getLogger("genqueue.line")


def hush(task: asyncio.Task[None]) -> None:
    """Let whoever closes a loop without cancelling its tasks hear nothing of this one."""
    task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001


async def stop(task: asyncio.Task[None]) -> BaseException | None:
    """Cancel a task, wait for its end and return what ended it."""
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    return ended


class LoopSignal:
    """An event on which one task waits at a time; asyncio's own costs twice as much for each ring."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._set = False
        self._waiting: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake whoever waits."""
        self._set = True
        if self._waiting is not None:
            _resolve(self._waiting)

    def clear(self) -> None:
        """Let the next one wait."""
        self._set = False

    async def wait(self, seconds: float) -> None:
        """Return when it is set, at the latest after some seconds."""
        if self._set:
            return
        self._waiting = waiting = self._loop.create_future()
        timer = self._loop.call_later(seconds, _resolve, waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            self._waiting = None


def _resolve(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class AsyncLine:
    """Hears every channel that anybody on the loop listens to, while `live` runs.

    Args:
        server: where to connect.
    """

    def __init__(self, server: DataServer) -> None:
        self._server = server
        self._board = Switchboard()
        self._loop = asyncio.get_running_loop()
        # Set while there is something to do: to subscribe, to unsubscribe, to connect.
        self._wanted = asyncio.Event()

    async def listen(self, channels: tuple[str, ...], *, ends_only: bool = False) -> Inbox:
        """Return an inbox once its channels are heard; raises ServerUnavailable when they cannot be."""
        inbox = Inbox(channels, LoopSignal(), ends_only=ends_only, leave=self._leave)
        self._board.add(inbox)
        self._wanted.set()
        try:
            await self._in_time(self._await(inbox), "no answer to SUBSCRIBE")
        except AWAY as error:
            inbox.close()
            raise self._server.unavailable(error) from error
        except BaseException:
            inbox.close()
            raise
        return inbox

    async def _await(self, inbox: Inbox) -> None:
        while not inbox.confirmed:
            if inbox.away is not None:
                raise inbox.away
            await inbox.signal.wait(self._server.patience)
            inbox.signal.clear()
        inbox.signal.set()  # for who hears: there is a stream to read

    def _leave(self, inbox: Inbox) -> None:
        self._board.remove(inbox)
        if not self._loop.is_closed():  # whoever drops a tail may do it anywhere, even when all is over
            self._loop.call_soon_threadsafe(self._wanted.set)

    def end(self) -> None:
        """Tell whoever still listens that it is over."""
        self._board.end(InfrastructureError(CLOSED))

    async def live(self) -> None:
        """Hold a connection while anybody listens, until cancelled."""
        back_off = BackOff()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._board.quiet:
                continue
            try:
                await self._connect(back_off)
            except AWAY as error:
                pause = back_off.next()
                log.info("line.lost server=%s error=%s retry=%.2f", self._server.name, error, pause)
                self._board.lose(self._server.unavailable(error))
                await asyncio.sleep(pause)
                self._wanted.set()

    async def _connect(self, back_off: BackOff) -> None:
        """Hold a connection until nobody listens any more; raises what ends it."""
        connection = self._server.make_async_connection()
        try:
            await self._hold(connection, back_off)
        except (asyncio.CancelledError, *AWAY):  # not when the loop is gone: then nothing can be awaited
            await connection.disconnect(nowait=True)
            raise
        await connection.disconnect(nowait=True)

    async def _hold(self, connection: Any, back_off: BackOff) -> None:
        await self._in_time(connection.connect(), "no connection")
        pulse = Pulse(self._loop.time())
        hearing = self._loop.create_task(self._hear(connection, pulse, back_off))
        hush(hearing)
        hearing.add_done_callback(lambda _: self._wanted.set())
        try:
            while not hearing.done() and await self._tend(connection, pulse):
                pass
        except (asyncio.CancelledError, *AWAY):
            await stop(hearing)
            raise
        ended = await stop(hearing)
        if isinstance(ended, Exception):
            raise ended

    async def _hear(self, connection: Any, pulse: Pulse, back_off: BackOff) -> None:
        while True:
            self._board.receive(await connection.read_response(disconnect_on_error=False))
            pulse.hear(self._loop.time())
            back_off.reset()

    async def _tend(self, connection: Any, pulse: Pulse) -> bool:
        """Subscribe, ping, and wait for more to do; returns False when nobody needs the connection any more."""
        for command in self._board.commands():
            await self._in_time(connection.send_command(*command), "nothing can be sent")
        self._server.check(connection)
        now = self._loop.time()
        if not self._board.quiet:
            pulse.need(now)
        elif pulse.idle(now) and self._board.hang_up():
            return False
        if pulse.beat(now):
            await self._in_time(connection.send_command("PING"), "nothing can be sent")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pulse.left(now)):
                await self._wanted.wait()
        self._wanted.clear()
        return True

    async def _in_time(self, sending: Awaitable[object], problem: str) -> None:
        try:
            async with asyncio.timeout(self._server.patience):
                await sending
        except TimeoutError:
            raise RedisTimeoutError(f"{problem} within {self._server.patience:g} s") from None
