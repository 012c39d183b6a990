"""Carrying out steps: connections to the data server and the broker, blocking and asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from genqueue import scripts
from genqueue.deployment import Deployment, join
from genqueue.dispatch import make_dispatcher
from genqueue.errors import ServerUnavailable
from genqueue.events import Event
from genqueue.keys import Keys
from genqueue.patience import BRIEF, Patience, persist
from genqueue.settings import server_name
from genqueue.steps import BLOCK, Pause, Publish, Query, Run, Wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from genqueue.settings import Settings
    from genqueue.steps import Step, Tailing

T = TypeVar("T")

#: Entries one read of a stream returns at most.
PAGE = 512

#: The server is away or refuses (it loads, is out of memory, turned replica, wants a password): it may take us again.
_AWAY = (RedisError, OSError)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return keyword arguments for a redis client's from_url; retries are ours: redis-py's multiply the timeouts."""
    return {
        "protocol": 2,
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.command_timeout,
        "socket_keepalive": True,
    }


def read_command(step: Wait) -> tuple[str | int, ...]:
    """Return the XREAD for a step; it never blocks for 0 ms, which would be for ever."""
    milliseconds = max(1, int(step.seconds * 1000))
    return ("XREAD", "COUNT", PAGE, "BLOCK", milliseconds, "STREAMS", step.stream, step.after)


def entries_of(reply: Sequence[Any]) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the entries in the reply to an XREAD of one stream."""
    return list(reply[0][1]) if reply else []


def resume(operation: Tailing[T], reply: object) -> Step | Event:
    """Give an operation the reply it waits for and return what it asks next."""
    return operation.throw(reply) if isinstance(reply, ServerUnavailable) else operation.send(reply)


class BlockingConnection:
    """Carries out operations with blocking calls; usable from several threads.

    Attributes:
        settings: the settings it was made with.
        keys: spells the deployment's keys.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.key_prefix, settings.partitions)
        self._deployment: Deployment | None = None
        self._server = server_name(settings.data_url)
        options, retry = connection_options(settings), Retry(NoBackoff(), 0)
        self._commands = redis.Redis.from_url(settings.data_url, **options, retry=retry)
        options["socket_timeout"] += 2 * BLOCK
        self._reads = redis.Redis.from_url(settings.data_url, **options, retry=retry)
        self._dispatcher = make_dispatcher(settings.broker)

    def run(self, operation: Tailing[T]) -> T:
        """Carry out an operation and return what it returns; its events are dropped."""
        following = self.follow(operation)
        while True:
            try:
                next(following)
            except StopIteration as stop:
                result: T = stop.value
                return result

    def follow(self, operation: Tailing[T]) -> Generator[Event, None, T]:
        """Carry out an operation, yielding its events; returns what it returns."""
        try:
            step = next(operation)
            while True:
                if isinstance(step, Event):
                    yield step
                    step = next(operation)
                else:
                    step = resume(operation, self._execute(step))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def deployment(self, patience: Patience = BRIEF) -> Deployment:
        """Return the deployment, joining it on first use."""
        # No lock: joining twice does no harm, and while the server is away every thread gets its error as soon.
        if self._deployment is None:
            self._deployment = self.run(persist(lambda: join(self.keys), patience))
        return self._deployment

    def _execute(self, step: Step) -> Any:
        """Carry out a step and return its reply, or a ServerUnavailable to throw into the operation."""
        try:
            match step:
                case Run(call):
                    return scripts.run(self._commands, call)
                case Query(commands):
                    return self._query(commands)
                case Wait():
                    command = read_command(step)
                    return entries_of(self._reads.execute_command(*command))
                case Publish(publication):
                    return self._dispatcher.publish([publication])
                case Pause(seconds):
                    return time.sleep(seconds)
        except _AWAY as error:
            away = ServerUnavailable(self._server, error)
            away.__cause__ = error
            return away

    def _query(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        with self._commands.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()

    def close(self) -> None:
        """Close every connection."""
        self._commands.close()
        self._reads.close()
        self._dispatcher.close()


class AsyncConnection:
    """Carries out operations on the running event loop.

    Attributes:
        settings: the settings it was made with.
        keys: spells the deployment's keys.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.key_prefix, settings.partitions)
        self._deployment: Deployment | None = None
        self._server = server_name(settings.data_url)
        options, retry = connection_options(settings), AsyncRetry(NoBackoff(), 0)
        self._commands = redis.asyncio.Redis.from_url(settings.data_url, **options, retry=retry)
        options["socket_timeout"] += 2 * BLOCK
        self._reads = redis.asyncio.Redis.from_url(settings.data_url, **options, retry=retry)
        self._dispatcher = make_dispatcher(settings.broker)

    async def run(self, operation: Tailing[T]) -> T:
        """Carry out an operation and return what it returns; its events are dropped."""
        try:
            step = next(operation)
            while True:
                step = next(operation) if isinstance(step, Event) else resume(operation, await self._execute(step))
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def follow(self, operation: Tailing[None]) -> AsyncGenerator[Event, None]:
        """Carry out an operation, yielding its events."""
        try:
            step = next(operation)
            while True:
                if isinstance(step, Event):
                    yield step
                    step = next(operation)
                else:
                    step = resume(operation, await self._execute(step))
        except StopIteration:
            return

    async def deployment(self, patience: Patience = BRIEF) -> Deployment:
        """Return the deployment, joining it on first use."""
        if self._deployment is None:
            self._deployment = await self.run(persist(lambda: join(self.keys), patience))
        return self._deployment

    async def _execute(self, step: Step) -> Any:
        """Carry out a step and return its reply, or a ServerUnavailable to throw into the operation."""
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        reply = await self._carry_out(step)
        if task and task.cancelling() > cancels:
            # Under Python 3.11 a redis command swallows a cancellation that comes as it ends.
            raise asyncio.CancelledError
        return reply

    async def _carry_out(self, step: Step) -> Any:
        try:
            match step:
                case Run(call):
                    return await scripts.arun(self._commands, call)
                case Query(commands):
                    return await self._query(commands)
                case Wait():
                    command = read_command(step)
                    return entries_of(await self._reads.execute_command(*command))
                case Publish(publication):
                    return await asyncio.to_thread(self._dispatcher.publish, [publication])
                case Pause(seconds):
                    return await asyncio.sleep(seconds)
        except _AWAY as error:
            away = ServerUnavailable(self._server, error)
            away.__cause__ = error
            return away

    async def _query(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        async with self._commands.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
            return replies

    async def aclose(self) -> None:
        """Close every connection."""
        await self._commands.aclose()
        await self._reads.aclose()
        await asyncio.to_thread(self._dispatcher.close)
