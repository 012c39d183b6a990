"""Ringing the broker: one Celery message for each time a flight is to be looked at."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.pools import ProducerPool
from redis.exceptions import ReadOnlyError

from genqueue.errors import SettingsError, shown
from genqueue.lanes import QUEUES, SUBMIT_QUEUE, TASK
from genqueue.settings import server_name, without_credentials
from genqueue.stencils import Made, Name, Stencils, is_copyable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from genqueue.ledger import Publication

log = logging.getLogger("genqueue.dispatch")

#: Messages that go to the broker in one round trip.
BATCH: Final = 250

#: Seconds within which a failure that goes on is not said again.
QUIET: Final = 10.0

#: Connections to the broker that one dispatcher uses at once, and seconds to wait for one.
CONNECTIONS: Final = 8
PATIENCE: Final = 1.0


def make_queues() -> tuple[Queue, ...]:
    """Return every queue with an exchange and a routing key of its own.

    Without them Celery binds all queues to the default exchange, and each message reaches every lane.
    """
    return tuple(Queue(name, Exchange(name), routing_key=name) for name in (*QUEUES, SUBMIT_QUEUE))


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
    except TypeError as error:  # Kombu passes the URL's options on as arguments
        variable = "GENQUEUE_BROKER_URL (GENQUEUE_DATA_URL where that is not set)"
        reason = str(error).rpartition("() ")[2]
        problem = f"{variable}: got {shown(without_credentials(broker))}, expected options that Kombu knows ({reason})"
        raise SettingsError([problem]) from error


def task_id_of(publication: Publication) -> str:
    """Return the id of the Celery task for a publication; it leads from Flower to the flight.

    Of its own for each message, as stamps are: a revoked id would be dropped by every worker for good.
    """
    return f"{publication.flight}.{publication.stamp}"


def _named(publication: Publication) -> Name:
    """Return the id of a publication's task, and the task's arguments."""
    return task_id_of(publication), (publication.flight, publication.stamp)


def _batch(producer: Any, count: int) -> AbstractContextManager[object]:
    """Return what gathers a producer's messages into few round trips; a single one, or an older Kombu, goes without."""
    batching = getattr(producer, "batch", None)
    return nullcontext() if batching is None or count == 1 else batching(max_size=BATCH)


@contextmanager
def _leaving_replicas(producer: Any) -> Iterator[None]:
    """Close a producer's connection when the broker was made a replica: a new one may lead to the new primary."""
    connection = producer.connection
    try:
        yield
    except Exception as error:
        if isinstance(error.__cause__ or error, ReadOnlyError):
            connection.collect()
        raise


class Dispatcher:
    """Publishes messages through a Celery app; usable from several threads.

    A message carries the flight's id and its stamp, never a prompt, so neither Celery nor Flower sees one.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        connection = app.connection_for_write()
        # Not Celery's own pools: those are one for the whole process, outlive the app, and are copied by a fork.
        self._connections = connection.Pool(limit=CONNECTIONS)
        self._producers = ProducerPool(self._connections, limit=CONNECTIONS)
        self._errors = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
        self._made: WeakKeyDictionary[Any, Made] = WeakKeyDictionary()
        self._said_at = -QUIET
        self._unsaid = 0

    def publish(self, publications: Iterable[Publication]) -> bool:
        """Publish messages in order; returns whether that worked.

        A failure is logged, not raised: the sweep publishes what the broker lacks.
        """
        pending = tuple(publications)
        try:
            with self._producers.acquire(block=True, timeout=PATIENCE) as producer, _leaving_replicas(producer):
                self._send_all(pending, producer)
        except self._errors as error:
            # Kombu's own error says of a batch only that it failed.
            self._failed(len(pending), error.__cause__ or error)
            return False
        return True

    def _failed(self, count: int, error: BaseException) -> None:
        """Say that messages were not published; of a failure that goes on now and then, with all there were since."""
        self._unsaid += count
        now = time.monotonic()
        if now - self._said_at < QUIET:
            return
        log.warning(
            "dispatch.failed messages=%d broker=%s error=%s; the sweep will publish them: check the broker",
            self._unsaid,
            server_name(self._app.conf.broker_url),
            error,
        )
        self._unsaid, self._said_at = 0, now

    def _send_all(self, publications: Sequence[Publication], producer: Any) -> None:
        if is_copyable(producer.channel):
            stencils = Stencils(
                producer.channel, lambda one: self._send(one, producer), _named, self._made_on(producer.channel)
            )
            for start in range(0, len(publications), BATCH):
                stencils.push(publications[start : start + BATCH])
            return
        with _batch(producer, len(publications)):
            for publication in publications:
                self._send(publication, producer)

    def _made_on(self, channel: Any) -> Made:
        """Return the stencils made on a channel; whoever connects anew declares queues anew, and has a new channel."""
        if self._app.current_worker_task is not None:  # whose child each task is
            return {}
        return self._made.setdefault(channel, {})

    def _send(self, publication: Publication, producer: Any) -> None:
        task_id, args = _named(publication)
        self._app.send_task(
            TASK,
            args=args,
            argsrepr=repr(args),  # Celery's own way to them takes a sixth of the whole call
            kwargsrepr="{}",
            queue=publication.queue,
            task_id=task_id,
            producer=producer,
            retry=False,
            headers={"traceparent": publication.traceparent} if publication.traceparent else None,
            ignore_result=True,  # in a header, where it counts more than what the task says
            add_to_parent=False,  # who waits for the children of the task that submits would wait for ever
        )

    def close(self) -> None:
        """Close its connections."""
        self._producers.force_close_all()
        self._connections.force_close_all()
        self._app.close()
