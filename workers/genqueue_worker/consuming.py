"""Celery's consumer as other threads see it: whether it consumes, what it should, and a way to have it start anew."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from celery import bootsteps
from celery.worker import consumer
from celery.worker import state as worker_state

#: Seconds between two tries to connect to a broker that is away: the first, what each adds, and what they grow to at
#: most. Celery's own go up to 30, for which jobs would wait although the broker is back.
RECONNECT: Final = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2.0}


class Consuming:
    """Whether this process's consumer consumes. Written on the hub thread, read by any.

    Attributes:
        running: it is connected to the broker and takes messages.
        starts: how often it began to.
        asked: how many of those were asked for by `restart`.
    """

    def __init__(self) -> None:
        self.running = False
        self.starts = 0
        self.asked = 0
        self._ended = False
        self._wanted = False
        self._parent: Any = None

    @property
    def stopping(self) -> bool:
        """Whether the worker was told to end."""
        told = (worker_state.should_stop, worker_state.should_terminate)  # an exit status, 0 among them
        return self._ended or any(status is not None and status is not False for status in told)

    @property
    def queues(self) -> frozenset[str]:
        """Names of the queues to consume, as remote control left them."""
        parent = self._parent
        return frozenset() if parent is None else frozenset(tuple(parent.app.amqp.queues.consume_from))

    def restart(self) -> None:
        """Have the consumer drop its connection to the broker and start anew, at the hub's next turn."""
        self._wanted = True

    def begin(self, parent: Any) -> None:
        """Note that Celery's consumer has started."""
        self._parent = parent
        self._wanted = False
        self._ended = False
        self.running = True
        self.starts += 1
        if parent.hub is not None:
            parent.hub.on_tick.add(self._turn)

    def end(self, parent: Any) -> None:
        """Note that it has stopped, for now or for good."""
        self.running = False
        self._ended = parent.blueprint.state != bootsteps.RUN
        if parent.hub is not None:
            parent.hub.on_tick.discard(self._turn)

    def _turn(self) -> None:
        if self._wanted:
            self._wanted = False
            self.asked += 1
            # The hub guards no call but lets this one end its loop, and Celery starts anew after the loss of a
            # connection. Closing a socket instead would do nothing when the hub has forgotten that it reads it.
            raise ConnectionResetError("the watchdog restarts the consumer")


#: The consumer of this process.
CONSUMING: Final = Consuming()


class Consumer(consumer.Consumer):  # type: ignore[misc] # Celery ships no types
    """Celery's consumer, which is soon back when its broker is."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however often that takes; raises what Celery's does."""
        conn.ensure_connection = partial(conn.ensure_connection, **RECONNECT)
        return super().ensure_connected(conn)


class Watched(bootsteps.StartStopStep):  # type: ignore[misc] # Celery ships no types
    """Last step of Celery's consumer before its loop: from here on it consumes."""

    requires = ("celery.worker.consumer.tasks:Tasks", "celery.worker.consumer.control:Control")

    def start(self, parent: Any) -> None:
        """Note the start."""
        CONSUMING.begin(parent)

    def stop(self, parent: Any) -> None:
        """Note the end."""
        CONSUMING.end(parent)
