"""Admitting jobs for whoever speaks Celery and not the SDK: what the task `genqueue.submit` does."""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final

from celery.exceptions import Reject
from celery.worker.request import Request

from genqueue import submission
from genqueue.errors import InvalidRequest, QueueFull, ServerUnavailable, StreamGone, SubmitUncertain
from genqueue.intake import Intake
from genqueue.order import order_of
from genqueue.whereabouts import CELERY
from genqueue_worker import trace
from genqueue_worker.outage import Outage
from genqueue_worker.slots import SLOTS
from genqueue_worker.transport import UNNOTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue.connections import AsyncConnection
    from genqueue.intake import Accepted
    from genqueue.order import Order

log = logging.getLogger("genqueue.admission")

#: Seconds between two tries while the data server is away.
RETRY: Final = 0.5

#: Seconds a request is tried; then its message goes back into its queue, for any worker.
PATIENCE: Final = 30.0

#: What may be otherwise soon: a full lane, a server that is away.
LATER: Final = (QueueFull, ServerUnavailable, SubmitUncertain)

#: What Flower and the log show in place of a request.
HIDDEN: Final = "(a request)"


class QuietRequest(Request):  # type: ignore[misc] # Celery ships no types
    """Celery's view of a message whose arguments are somebody's prompt: shown nowhere."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argsrepr = self._kwargsrepr = HIDDEN
        self.request_dict.update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """Return what remote control tells of it."""
        return super().info(safe=True)


class Admission:
    """Submits requests that came as Celery messages, each once, however often its message comes."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._intake = Intake(connection.deployment, connection.settings, connection.codec, connection.blobs)
        self._away = Outage(log, "admission.away", "admission.back", "requests wait: check the data server")

    async def admit(self, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
        """Submit and return the job's id, the key of its stream and its leave mark.

        Args:
            request: Celery's request of the task: its id is the idempotency key, unless one is given, and a header
                `traceparent` the trace context, unless one is given.
            args: nothing, or the contents.
            kwargs: arguments of `Client.submit`.

        Raises:
            ValueError: an argument is wrong; builtin, as it goes to whoever sent the message.
            LookupError: the task was admitted before, and its job is done and gone.
            Reject: the data server is away, or the lane is full; the message goes back into its queue.
        """
        try:
            only_copy = getattr(request, UNNOTED, False) is True
            accepted = await self._submit(read(request, args, kwargs), inf if only_copy else PATIENCE)
        except InvalidRequest as error:
            raise ValueError(str(error)) from error
        except StreamGone as error:
            raise LookupError(str(error)) from error
        stream = self._connection.keys.events(accepted.flight)
        log.info("admission.admitted task=%s job=%s flight=%s", request.id, accepted.job, accepted.flight)
        return {"job_id": accepted.job, "stream_key": stream, "leave_mark": accepted.mark}

    async def _submit(self, order: Order, patience: float) -> Accepted:
        try:
            accepted = await self._connection.run(submission.submit(order, self._intake))
        except LATER as error:
            self._away.failed(error)
            SLOTS.waiting += 1
            try:
                return await self._submit_later(order, error, time.monotonic() + patience)
            finally:
                SLOTS.waiting -= 1
        self._away.worked()
        return accepted

    async def _submit_later(self, order: Order, error: Exception, give_up: float) -> Accepted:
        """Try again and again; raises Reject when that was too long."""
        while (left := give_up - time.monotonic()) > 0:
            await asyncio.sleep(min(error.retry_after, left) if isinstance(error, QueueFull) else RETRY)
            try:
                accepted = await self._connection.run(submission.submit(order, self._intake))
            except LATER as again:
                error = again
                self._away.failed(error)
            else:
                self._away.worked()
                return accepted
        raise Reject(str(error), requeue=True) from error


def read(request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Order:
    """Return the order in a message's arguments; raises InvalidRequest naming the first that is wrong."""
    arguments = {**kwargs}
    if len(args) > 1:
        raise InvalidRequest("args", args, "nothing but the contents; all else as kwargs, by the names of submit")
    if args:
        if "contents" in arguments:
            raise InvalidRequest("contents", args[0], "contents once: in args or in kwargs")
        arguments["contents"] = args[0]
    if arguments.get("idempotency_key") is None:
        arguments["idempotency_key"] = CELERY + request.id
    header = getattr(request, "traceparent", None)
    if isinstance(header, str) and trace.trace_id(header) and arguments.get("traceparent") is None:
        arguments["traceparent"] = header
    return order_of(arguments, {})
