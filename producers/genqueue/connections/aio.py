"""Carrying out operations on event loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import ResponseError

from genqueue import scripts
from genqueue.connections.aio_line import AsyncLine, hush, stop
from genqueue.connections.gate import AsyncGate
from genqueue.connections.resume import opened, resume
from genqueue.connections.server import AWAY, CLOSED, COMMANDS, HELLO, READS, DataServer
from genqueue.deployment import Deployment
from genqueue.dispatch import Dispatcher, make_dispatcher
from genqueue.errors import InfrastructureError, ServerUnavailable, SettingsError
from genqueue.keys import Keys
from genqueue.payload.blobs import blob_store_of
from genqueue.payload.codec import codec_of
from genqueue.steps import Hear, Listen, Pause, Publish, Query, Read, Run, RunMany, Step, Work

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    import redis.asyncio

    from genqueue.reading.bells import Heard, Inbox
    from genqueue.settings import Settings
    from genqueue.steps import Following

T = TypeVar("T")
Y = TypeVar("Y")


class AsyncResources:
    """Everything of a client that has sockets or tasks: one per event loop.

    Nothing is connected before it is used. When the loop's tasks are cancelled at its end, all is closed.

    Args:
        settings: where the data server is.
        dispatcher: rings the broker.

    Attributes:
        loop: the loop it belongs to.
        closed: whether `aclose` was called.
    """

    def __init__(self, settings: Settings, dispatcher: Dispatcher) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._server = DataServer(settings)
        self._commands, self._command_gate = self._server.make_async_client(), AsyncGate(COMMANDS)
        self._reads, self._read_gate = self._server.make_async_client(), AsyncGate(READS)
        self._line = AsyncLine(self._server)
        self._dispatcher = dispatcher
        self._living = self.loop.create_task(self._live(), name="genqueue-line")
        hush(self._living)

    async def carry_out(self, step: Step) -> Any:
        """Carry out a step and return its reply, or a ServerUnavailable to throw into the operation."""
        if self.closed:
            raise InfrastructureError(CLOSED)
        try:
            return await _CARRIERS[type(step)](self, step)
        except ServerUnavailable as away:
            return away
        except AWAY as error:
            return self._server.unavailable(error)

    async def run(self, step: Run) -> Any:
        """Run a script."""
        async with self._command_gate.passage():
            return await _heeding(scripts.arun(self._commands, step.call))

    async def run_many(self, step: RunMany) -> list[Any]:
        """Run scripts in one round trip."""
        async with self._command_gate.passage():
            return await _heeding(scripts.arun_many(self._commands, step.calls, step.meanwhile))

    async def query(self, step: Query) -> list[Any]:
        """Send plain commands in one round trip."""
        async with self._command_gate.passage():
            return await _heeding(_ask(self._commands, step.commands))

    async def read(self, step: Read) -> list[Any]:
        """Send plain commands on connections apart."""
        async with self._read_gate.passage():
            replies = await _heeding(_ask(self._reads, step.commands))
            if self._server.role_due:
                self._server.check_role(await _heeding(_hello(self._reads)))
            return replies

    async def listen(self, step: Listen) -> Inbox:
        """Return an inbox that hears channels."""
        return await self._line.listen(step.channels, ends_only=step.ends_only)

    async def hear(self, step: Hear) -> Heard:
        """Wait for something to come into an inbox."""
        if not step.inbox.foreign:
            await step.inbox.signal.wait(step.seconds)
        return step.inbox.take()

    async def publish(self, step: Publish) -> None:
        """Ring the broker."""
        await asyncio.to_thread(self._dispatcher.publish, step.publications)

    async def work(self, step: Work) -> Any:
        """Call what blocks."""
        return await asyncio.to_thread(step.call)

    async def pause(self, step: Pause) -> None:
        """Do nothing for some seconds."""
        await asyncio.sleep(step.seconds)

    def meet(self) -> bool:
        """Return whether the server may be another than before, once."""
        strange, self._server.strange = self._server.strange, False
        return strange

    async def _live(self) -> None:
        try:
            await self._line.live()
        except asyncio.CancelledError:
            await self._disconnect()
            raise

    async def aclose(self) -> None:
        """Close every connection."""
        self.closed = True
        await stop(self._living)
        await self._disconnect()

    async def _disconnect(self) -> None:
        self._line.end()
        await self._commands.aclose()
        await self._reads.aclose()


_CARRIERS: Final[Mapping[type, Callable[[AsyncResources, Any], Awaitable[Any]]]] = {
    Run: AsyncResources.run,
    RunMany: AsyncResources.run_many,
    Query: AsyncResources.query,
    Read: AsyncResources.read,
    Listen: AsyncResources.listen,
    Hear: AsyncResources.hear,
    Publish: AsyncResources.publish,
    Work: AsyncResources.work,
    Pause: AsyncResources.pause,
}


async def _heeding(command: Awaitable[T]) -> T:
    """Return a command's reply; under Python 3.11 redis-py swallows a cancellation that comes as a command ends."""
    task = asyncio.current_task()
    cancels = task.cancelling() if task else 0
    try:
        reply = await command
    except Exception:
        # Swallowed when the command was sent, and then the reply did not come: the cancellation counts.
        if task and task.cancelling() > cancels:
            raise asyncio.CancelledError from None
        raise
    if task and task.cancelling() > cancels:
        raise asyncio.CancelledError
    return reply


async def _ask(client: redis.asyncio.Redis, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute()
        return replies


async def _hello(client: redis.asyncio.Redis) -> Any:
    try:
        return await client.execute_command(*HELLO)
    except ResponseError:  # something in between that does not know it
        return ()


class AsyncConnection:
    """Carries out operations on the running event loop; usable from several loops, and in forked processes.

    Attributes:
        settings: the settings it was made with.
        keys: spells the deployment's keys.
        deployment: what was agreed on with the server, and its clock.
        codec: opens what is stored, and seals it.
        blobs: where large inline data is kept; None without such a place.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.key_prefix, settings.partitions)
        self.codec = codec_of(settings)
        self.blobs = blob_store_of(settings, self.codec)
        self.deployment = Deployment(self.keys)
        # By process, and by process and loop. A parent's stay here, untouched.
        self._dispatchers: dict[int, Dispatcher] = {}
        self._resources: dict[tuple[int, int], AsyncResources] = {}
        self._dispatcher()

    async def run(self, operation: Following[Y, T]) -> T:
        """Carry out an operation and return what it returns; what it yields to a reader is dropped."""
        self._reopen()
        try:
            step = next(operation)
            while True:
                # What is no step is for a reader, and here is none.
                step = resume(operation, await self._carry_out(step)) if isinstance(step, Step) else next(operation)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    async def follow(self, operation: Following[Y, None]) -> AsyncGenerator[Y, None]:
        """Carry out an operation, yielding what it has for its reader."""
        self._reopen()
        try:
            step = next(operation)
            while True:
                if isinstance(step, Step):
                    step = resume(operation, await self._carry_out(step))
                else:
                    yield opened(self.codec, step)
                    step = next(operation)
        except StopIteration:
            return
        finally:
            operation.close()

    async def _carry_out(self, step: Step) -> Any:
        resources = self._here()
        reply = await resources.carry_out(step)
        if resources.meet():
            self.deployment.doubt()
            with contextlib.suppress(ServerUnavailable, SettingsError):  # whoever submits next is told
                await self.run(self.deployment.join())
        return reply

    def _reopen(self) -> None:
        """Let what begins now have new resources when the old ones are closed; what is under way has to end."""
        key = _key()
        found = self._resources.get(key)
        if found is not None and found.closed:
            self._resources.pop(key, None)

    def _here(self) -> AsyncResources:
        """Return the running loop's resources."""
        loop, key = asyncio.get_running_loop(), _key()
        found = self._resources.get(key)
        if found is None or found.loop is not loop:
            self._forget_closed_loops()
            found = self._resources[key] = AsyncResources(self.settings, self._dispatcher())
        return found

    def _forget_closed_loops(self) -> None:
        for key, resources in list(self._resources.items()):
            if key[0] == os.getpid() and resources.loop.is_closed():
                self._resources.pop(key, None)

    def _dispatcher(self) -> Dispatcher:
        process = os.getpid()
        found = self._dispatchers.get(process)
        return found or self._dispatchers.setdefault(process, make_dispatcher(self.settings.broker))

    async def aclose(self) -> None:
        """Close every connection of the running loop; used again, it connects again."""
        process = os.getpid()
        found = self._resources.get(_key())
        if found is not None and not found.closed:
            await found.aclose()
        self._forget_closed_loops()
        if any(key[0] == process and not resources.closed for key, resources in self._resources.items()):
            return  # another loop may be in the middle of a submit
        dispatcher = self._dispatchers.pop(process, None)
        if dispatcher is not None:
            await asyncio.to_thread(dispatcher.close)


def _key() -> tuple[int, int]:
    """Return what tells the running loop from others, in this process and in those it was forked from."""
    return os.getpid(), id(asyncio.get_running_loop())
