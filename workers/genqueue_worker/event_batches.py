"""Task events for Flower and other monitors, sent a batch at a time."""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps

#: Seconds a task event may wait for others; Celery sends one publication for each turn of its hub.
DELAY: Final = 0.05


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
