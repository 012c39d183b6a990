"""Carrying out operations with blocking calls."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import ResponseError

from genqueue import scripts
from genqueue.connections.blocking_line import BlockingLine
from genqueue.connections.gate import Gate
from genqueue.connections.resume import opened, resume
from genqueue.connections.server import AWAY, CLOSED, COMMANDS, HELLO, READS, DataServer
from genqueue.deployment import Deployment
from genqueue.dispatch import make_dispatcher
from genqueue.errors import InfrastructureError, ServerUnavailable, SettingsError
from genqueue.keys import Keys
from genqueue.payload.blobs import blob_store_of
from genqueue.payload.codec import codec_of
from genqueue.steps import Hear, Listen, Pause, Publish, Query, Read, Run, RunMany, Step, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import redis

    from genqueue.reading.bells import Heard, Inbox
    from genqueue.settings import Settings
    from genqueue.steps import Following

T = TypeVar("T")
Y = TypeVar("Y")


class Resources:
    """Everything of a client that has sockets, threads or foreign pools: one per process, as none survives a fork.

    Nothing is connected before it is used.

    Attributes:
        closed: whether `close` was called.
    """

    def __init__(self, settings: Settings) -> None:
        self.closed = False
        self._server = DataServer(settings)
        self._commands, self._command_gate = self._server.make_client(), Gate(COMMANDS)
        self._reads, self._read_gate = self._server.make_client(), Gate(READS)
        self._line = BlockingLine(self._server)
        self._dispatcher = make_dispatcher(settings.broker)

    def carry_out(self, step: Step) -> Any:
        """Carry out a step and return its reply, or a ServerUnavailable to throw into the operation."""
        if self.closed:
            raise InfrastructureError(CLOSED)
        try:
            return _CARRIERS[type(step)](self, step)
        except ServerUnavailable as away:
            return away
        except AWAY as error:
            return self._server.unavailable(error)

    def run(self, step: Run) -> Any:
        """Run a script."""
        with self._command_gate.passage():
            return scripts.run(self._commands, step.call)

    def run_many(self, step: RunMany) -> list[Any]:
        """Run scripts in one round trip."""
        with self._command_gate.passage():
            return scripts.run_many(self._commands, step.calls, step.meanwhile)

    def query(self, step: Query) -> list[Any]:
        """Send plain commands in one round trip."""
        with self._command_gate.passage():
            return _ask(self._commands, step.commands)

    def read(self, step: Read) -> list[Any]:
        """Send plain commands on connections apart."""
        with self._read_gate.passage():
            replies = _ask(self._reads, step.commands)
            if self._server.role_due:
                self._server.check_role(_hello(self._reads))
            return replies

    def listen(self, step: Listen) -> Inbox:
        """Return an inbox that hears channels."""
        return self._line.listen(step.channels, ends_only=step.ends_only)

    def hear(self, step: Hear) -> Heard:
        """Wait for something to come into an inbox."""
        if not step.inbox.foreign:
            step.inbox.signal.wait(step.seconds)
        return step.inbox.take()

    def publish(self, step: Publish) -> None:
        """Ring the broker."""
        self._dispatcher.publish(step.publications)

    def work(self, step: Work) -> Any:
        """Call what blocks."""
        return step.call()

    def pause(self, step: Pause) -> None:
        """Do nothing for some seconds."""
        time.sleep(step.seconds)

    def meet(self) -> bool:
        """Return whether the server may be another than before, once."""
        strange, self._server.strange = self._server.strange, False
        return strange

    def close(self) -> None:
        """Close every connection."""
        self.closed = True
        self._line.close()
        self._commands.close()
        self._reads.close()
        self._dispatcher.close()


_CARRIERS: Final[Mapping[type, Callable[[Resources, Any], Any]]] = {
    Run: Resources.run,
    RunMany: Resources.run_many,
    Query: Resources.query,
    Read: Resources.read,
    Listen: Resources.listen,
    Hear: Resources.hear,
    Publish: Resources.publish,
    Work: Resources.work,
    Pause: Resources.pause,
}


def _ask(client: redis.Redis, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return pipeline.execute()


def _hello(client: redis.Redis) -> Any:
    try:
        return client.execute_command(*HELLO)
    except ResponseError:  # something in between that does not know it
        return ()


class BlockingConnection:
    """Carries out operations with blocking calls; usable from several threads, and in processes forked from this one.

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
        # By process. A parent's stay here, untouched: what is collected as garbage might say goodbye on its sockets.
        self._resources: dict[int, Resources] = {}
        self._here()
        weakref.finalize(self, _close_here, self._resources).atexit = False

    def run(self, operation: Following[Y, T]) -> T:
        """Carry out an operation and return what it returns; what it yields to a reader is dropped."""
        following = self.follow(operation)
        while True:
            try:
                next(following)
            except StopIteration as stop:
                result: T = stop.value
                return result

    def follow(self, operation: Following[Y, T]) -> Generator[Y, None, T]:
        """Carry out an operation, yielding what it has for its reader; returns what it returns."""
        self._reopen()
        try:
            step = next(operation)
            while True:
                if isinstance(step, Step):
                    step = resume(operation, self._execute(step))
                else:
                    yield opened(self.codec, step)
                    step = next(operation)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    def _execute(self, step: Step) -> Any:
        resources = self._here()
        reply = resources.carry_out(step)
        if resources.meet():
            self.deployment.doubt()
            with contextlib.suppress(ServerUnavailable, SettingsError):  # whoever submits next is told
                self.run(self.deployment.join())
        return reply

    def _here(self) -> Resources:
        """Return this process's resources."""
        # No lock: a fork may copy it locked. Threads that come at once make one too many, which holds nothing yet.
        process = os.getpid()
        found = self._resources.get(process)
        return found or self._resources.setdefault(process, Resources(self.settings))

    def _reopen(self) -> None:
        """Let what begins now have new resources when the old ones are closed; what is under way has to end."""
        found = self._resources.get(os.getpid())
        if found is not None and found.closed:
            self._resources.pop(os.getpid(), None)

    def close(self) -> None:
        """Close every connection of this process; used again, it connects again."""
        _close_here(self._resources)


def _close_here(resources: dict[int, Resources]) -> None:
    found = resources.get(os.getpid())
    if found is not None and not found.closed:
        found.close()
