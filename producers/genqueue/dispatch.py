"""Ringing the broker: one Celery message for each time a flight is to be looked at."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from genqueue.errors import SettingsError, shown
from genqueue.lanes import QUEUES, TASK
from genqueue.settings import server_name, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genqueue.ledger import Publication

log = logging.getLogger("genqueue.dispatch")


def make_queues() -> tuple[Queue, ...]:
    """Return every queue with an exchange and a routing key of its own.

    Without them Celery binds all queues to the default exchange, and each message reaches every lane.
    """
    return tuple(Queue(name, Exchange(name), routing_key=name) for name in QUEUES)


def make_app(broker: str, **configuration: Any) -> Celery:
    """Return a Celery app for a broker that never becomes the process's current app."""
    app = Celery("genqueue", broker=broker, set_as_current=False)
    app.conf.update(
        task_queues=make_queues(),
        task_default_queue="generate.normal",
        task_default_exchange="generate.normal",
        task_default_routing_key="generate.normal",
        task_create_missing_queues=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            # One key per queue: the lanes are queues of their own.
            "priority_steps": [0],
            "socket_connect_timeout": 1.0,
            "socket_timeout": 10.0,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        **configuration,
    )
    return app


def make_dispatcher(broker: str) -> Dispatcher:
    """Return what rings the broker; raises SettingsError for a broker that nothing here can talk to."""
    app = make_app(broker)
    # Whoever publishes does not wait for an absent broker: the sweep publishes what it did not get.
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "max_retries": 0, "socket_timeout": 1.0}
    try:
        return Dispatcher(app)
    except (KeyError, ImportError) as error:
        url = shown(without_credentials(broker))
        problem = f"GENQUEUE_BROKER_URL: got {url}, expected a broker whose Kombu transport is installed ({error})"
        raise SettingsError([problem]) from error


class Dispatcher:
    """Publishes messages through a Celery app; usable from several threads.

    A message carries the flight's id and its stamp, never a prompt, so neither Celery nor Flower sees one.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        connection = app.connection_for_write()
        self._errors = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)

    def publish(self, publications: Iterable[Publication]) -> None:
        """Publish messages in order; a failure is logged, not raised: the sweep publishes what the broker lacks."""
        pending = deque(publications)
        try:
            with self._app.producer_or_acquire() as producer:
                while pending:
                    self._send(pending[0], producer)
                    pending.popleft()
        except self._errors as error:
            log.warning(
                "dispatch.failed messages=%d broker=%s error=%s; the sweep will publish them: check the broker",
                len(pending),
                server_name(self._app.conf.broker_url),
                error,
            )

    def _send(self, publication: Publication, producer: Any) -> None:
        self._app.send_task(
            TASK,
            args=(publication.flight, publication.stamp),
            queue=publication.queue,
            # Of its own for each message: a revoked id would be dropped by every worker for good.
            task_id=str(uuid.uuid4()),
            producer=producer,
            retry=False,
        )

    def close(self) -> None:
        """Close the app's connections."""
        self._app.close()
