"""Kombu's Redis transport without what a doorbell does not need.

The ledger, not the broker, keeps the promise: a message that is popped and lost is published again. So messages are
taken without kombu's bookkeeping of unacknowledged ones, which costs two transactions a message. And kombu makes a
new redis client for each command it sends, which costs more than the command; one client a channel does as well.

Requests on `genqueue.submit` are another matter: their message is the only copy, so for them the bookkeeping stays,
under names of our own, because other Celery apps on the same server have other visibility timeouts.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from kombu.transport import redis, virtual
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from genqueue.lanes import QUEUES
from genqueue_worker.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("genqueue.transport")

#: What Celery and kombu raise over a message of another shape.
MALFORMED: Final = (TypeError, ValueError, LookupError, AttributeError)

#: A header of messages whose only copy is in this process.
UNNOTED: Final = "genqueue_unnoted"

_REFUSING: Final = Outage(
    log, "transport.refusing", "transport.taking", "messages stay where they are: check the broker's memory and disk"
)


def without_transactions(client: Any) -> Any:
    """Return the client; its pipelines are plain unless asked to be more: a full server refuses transactions whole."""
    pipeline = client.pipeline

    def plain(transaction: bool = False, shard_hint: object = None) -> Any:  # noqa: FBT001, FBT002 - redis-py's
        return pipeline(transaction, shard_hint)

    client.pipeline = plain
    return client


class QoS(redis.QoS):
    """Acknowledges only what is waited for, and loses no message over a server that goes away."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that was popped; one that cannot be noted is still delivered, as it is nowhere else."""
        try:
            super().append(message, delivery_tag)
        except (RedisError, OSError) as error:
            log.warning("transport.not_noted error=%r; a message will be lost if this worker dies now", error)
            if message.headers is not None:
                message.headers[UNNOTED] = True
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, unless it was taken without asking for it; refused, it comes again and is known."""
        if delivery_tag in self._delivered:
            with self._refusable(delivery_tag):
                super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Hand a message back, or drop it; refused, it comes again by its timeout."""
        with self._refusable(delivery_tag):
            super().reject(delivery_tag, requeue)

    @contextmanager
    def _refusable(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except ResponseError as error:
            _REFUSING.failed(error)
            virtual.QoS.ack(self, delivery_tag)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        if pipe is not None:
            return super()._remove_from_indices(delivery_tag, pipe)
        # The other way round: cut in between, what is left is an entry for nothing.
        with self.channel.conn_or_acquire() as client:
            removing = client.pipeline()
            return removing.hdel(self.unacked_key, delivery_tag).zrem(self.unacked_index_key, delivery_tag)

    def restore_visible(self, *args: Any, **options: Any) -> object:
        """Put back what was not acknowledged in time; a server that refuses to write is asked again next time."""
        try:
            restored: object = super().restore_visible(*args, **options)
        except ResponseError as error:
            _REFUSING.failed(error)
            return None
        _REFUSING.worked()
        return restored

    def restore_unacked(self, client: Any = None) -> None:
        """Hand back what is not acknowledged; with no connection left, the visibility timeout does it."""
        transport = self.channel.connection
        try:
            if transport is not None and transport.client is not None:
                for tag, message in tuple(self._delivered.items()):
                    if UNNOTED in (message.headers or {}):
                        super().append(message, tag)
                super().restore_unacked(client)
        finally:
            self._delivered.clear()  # nothing is left to acknowledge on a channel that closes


class Channel(redis.Channel):
    """Takes flights without acknowledgement, and sends its commands through one client."""

    QoS = QoS
    unacked_key = "genqueue.unacked"
    unacked_index_key = "genqueue.unacked_index"
    unacked_mutex_key = "genqueue.unacked_mutex"
    _one: Any = None

    def basic_consume(self, queue: str, no_ack: bool, *rest: Any, **options: Any) -> object:  # noqa: FBT001 - kombu's
        """Consume from a queue; a lane's without acknowledgement."""
        return super().basic_consume(queue, no_ack or queue in QUEUES, *rest, **options)

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._one is None or self._one.connection_pool is not self.pool:
            self._one = without_transactions(super()._create_client())
        return self._one

    def _queue_bind(self, *args: Any) -> None:
        """Enter a queue where publishers look; whoever consumes can go without while the server takes nothing."""
        try:
            super()._queue_bind(*args)
        except OutOfMemoryError as error:
            _REFUSING.failed(error)

    def maybe_refresh_binding_expiry(self) -> None:
        """Keep entries of reply queues alive."""
        try:
            super().maybe_refresh_binding_expiry()
        except ResponseError as error:
            _REFUSING.failed(error)

    def _brpop_read(self, **options: Any) -> object:
        try:
            return super()._brpop_read(**options)
        except ValueError as error:  # kombu decodes the envelope right after the pop
            return _dropped(error)
        except ResponseError as error:
            # A failover unblocks waiting pops with an error, which Celery would end the worker over; it reconnects
            # after what it knows as the loss of a connection.
            log.warning("transport.refused error=%s; the worker connects anew: check the broker", error)
            self.client.connection.disconnect()
            raise RedisConnectionError(f"the broker refused to be read: {error}") from error


class Transport(redis.Transport):
    """Kombu's Redis transport with our channels; a message nobody can read does not end the worker."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)
        except MALFORMED as error:
            _dropped(error)


def _dropped(error: Exception) -> bool:
    log.error(
        "transport.dropped error=%r; a message was not one of genqueue's: find who else publishes to its queues",
        error,
        exc_info=log.isEnabledFor(logging.DEBUG),
    )
    return True
