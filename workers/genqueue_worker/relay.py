"""The one door from other threads to Celery's hub thread."""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

#: What Celery queues on its hub that must still run while the pool drains: acknowledgements and buffered events.
_WANTED_WHILE_DRAINING = frozenset({"ack_log_error", "reject_log_error", "_flush_events"})


class Relay:
    """Run calls on the hub thread, in the order they were sent, whatever they raise.

    A deque and a pipe that the hub reads, not `hub.call_soon`: the hub keeps ready calls in a set, which loses their
    order; it runs them unguarded, so one that raises would end the worker; and what a ready call makes ready in its
    turn (acknowledgements, events) would wait for the next poll to end, up to a second.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._announced = False
        self._hub: Any = None
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._poller = select.poll()
        self._poller.register(self._reader, select.POLLIN)

    def attach(self, hub: Any) -> None:
        """Use this hub from now on; called again after each reconnect, when the hub has forgotten its readers."""
        self._hub = hub
        hub.add_reader(self._reader, self.run)

    def send(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have a function called on the hub thread soon; safe from any thread."""
        self._waiting.append((function, arguments))
        if not self._announced:
            self._announced = True
            self.wake()

    def wake(self) -> None:
        """End the wait of the hub or of `pump`; safe from any thread and in a signal handler, as it takes no lock."""
        with contextlib.suppress(BlockingIOError):  # so many wake-ups wait that one more says nothing
            os.write(self._writer, b"!")

    def run(self) -> None:
        """Make every waiting call; on the hub thread only, and safe when a signal handler enters it again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        self._announced = False
        while True:
            try:
                function, arguments = self._waiting.popleft()
            except IndexError:
                return
            guarded(function, *arguments)

    def pump(self, patience: float) -> None:
        """Do what a stopped hub would have done, after waiting `patience` seconds at most for a call to make.

        Calls, timers (heartbeats), acknowledgements and events go on; whatever else waits on the hub, such as reading
        more messages, is left alone.
        """
        self._poller.poll(patience * 1000)
        self.run()
        if self._hub is None:
            return
        guarded(self._hub.fire_timers)
        for callback in self._hub._pop_ready():  # noqa: SLF001 - as Celery's prefork pool does when it drains
            if getattr(getattr(callback, "fun", None), "__name__", "") in _WANTED_WHILE_DRAINING:
                guarded(callback)
            else:
                self._hub.call_soon(callback)


def guarded(function: Callable[..., object], *arguments: Any) -> None:
    """Make a call and log what it raises: nothing a callback raises may end the worker."""
    try:
        function(*arguments)
    except Exception:
        logger.exception("pool.callback_failed callback=%r", function)
