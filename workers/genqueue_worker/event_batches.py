"""Task events for Flower and other monitors, sent a batch at a time."""

from __future__ import annotations

import time
from typing import Any, Final

from celery import bootsteps
from celery.events.dispatcher import EventDispatcher

#: Seconds a task event may wait for others; Celery sends one publication for each turn of its hub.
DELAY: Final = 0.05

#: Seconds for which nothing is sent to a broker that did not take an event: each try may wait for its answer in vain.
QUIET: Final = 10.0


class Dispatcher(EventDispatcher):  # type: ignore[misc] # Celery ships no types
    """Sends task events; what the broker does not take at once is kept and sent after the next connection.

    Celery's heartbeat tries again and again until a broker takes it, on the hub's thread, which does nothing else
    meanwhile: it neither notices that its connection is lost nor that the worker was told to end.
    """

    _quiet_until = 0.0

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002 - Celery's signature
        """Send an event once."""
        return super().send(type, *args, **{**fields, "retry": False})

    def _publish(self, event: Any, producer: Any, routing_key: str, **options: Any) -> None:
        if time.monotonic() < self._quiet_until:
            self._outbound_buffer.append((event, routing_key))
            return
        kept = len(self._outbound_buffer)
        super()._publish(event, producer, routing_key, **options)
        if len(self._outbound_buffer) > kept:
            self._quiet_until = time.monotonic() + QUIET


class EventBatches(bootsteps.StartStopStep):  # type: ignore[misc] # Celery ships no types
    """Step of Celery's consumer: while it consumes, events gather for a moment; while it stops, they go at once."""

    requires = ("celery.worker.consumer.events:Events",)

    def start(self, parent: Any) -> None:
        """Let the consumer's event dispatcher wait a moment before it sends."""
        dispatcher, hub = parent.event_dispatcher, parent.hub
        if dispatcher is None or hub is None:
            return
        waiting = False

        def send() -> None:
            nonlocal waiting
            waiting = False
            parent._flush_events()  # noqa: SLF001 - what Celery itself would have called

        def send_soon() -> None:
            nonlocal waiting
            if not waiting:
                waiting = True
                hub.call_later(DELAY, send)

        dispatcher.on_send_buffered = send_soon

    def stop(self, parent: Any) -> None:
        """Send what waits, and from now on each event at once: the hub's timers may run no more."""
        if parent.event_dispatcher is not None:
            parent.event_dispatcher.on_send_buffered = parent.on_send_event_buffered
            parent.on_send_event_buffered()
