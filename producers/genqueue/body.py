"""A job's events as the body of an HTTP response: server-sent events for FastAPI, Starlette, Django and others.

>>> StreamingResponse(genqueue.sse(job, request.headers.get("last-event-id")), media_type="text/event-stream")
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, closing
from numbers import Real
from typing import TYPE_CHECKING, overload

from genqueue import frames
from genqueue.aio import AsyncJob
from genqueue.errors import GenqueueError, InvalidRequest, StreamGone
from genqueue.reading.place import position

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from genqueue.client import Job

log = logging.getLogger("genqueue.sse")

#: Shortest and longest time between two heartbeats, in seconds.
_RANGE = (0.1, 3600.0)

#: Cancellations on their way; the event loop itself keeps no strong reference to a task.
_leaving: set[asyncio.Task[None]] = set()


@overload
def sse(
    job: Job, last_event_id: str | None = None, *, heartbeat: float = 15.0, cancel_on_disconnect: bool = False
) -> Generator[str]: ...


@overload
def sse(
    job: AsyncJob, last_event_id: str | None = None, *, heartbeat: float = 15.0, cancel_on_disconnect: bool = False
) -> AsyncGenerator[str]: ...


def sse(
    job: Job | AsyncJob,
    last_event_id: str | None = None,
    *,
    heartbeat: float = 15.0,
    cancel_on_disconnect: bool = False,
) -> Generator[str] | AsyncGenerator[str]:
    """Return a job's events as frames of text: a generator for a Job, an asynchronous one for an AsyncJob.

    Frames have the event's `id`, its type as `event`, its fields as JSON in `data`. Besides the job's own events there
    are two: `gone` when the stream has expired, `error` with a `code` when it cannot be read any more; then it ends.

    Args:
        job: whose events.
        last_event_id: the request's Last-Event-ID header, to resume behind; None or "" begins with the first.
        heartbeat: seconds of silence after which a comment is sent, which also finds out who has left.
        cancel_on_disconnect: end the job when the reader leaves before its end.

    Raises:
        InvalidRequest: an argument is wrong; raised here, before the response begins.
    """
    after = last_event_id or None
    if after is not None:
        try:
            position(after)
        except InvalidRequest as error:
            raise InvalidRequest("last_event_id", after, error.expected) from None
    if not isinstance(heartbeat, Real) or not _RANGE[0] <= heartbeat <= _RANGE[1]:
        raise InvalidRequest("heartbeat", heartbeat, f"seconds from {_RANGE[0]:g} to {_RANGE[1]:g}")
    if isinstance(job, AsyncJob):
        return _async_frames(job, after, heartbeat, leave=cancel_on_disconnect)
    return _frames(job, after, heartbeat, leave=cancel_on_disconnect)


def _frames(job: Job, after: str | None, heartbeat: float, *, leave: bool) -> Generator[str]:
    try:
        yield frames.RETRY
        with closing(job.tail(after, heartbeat=heartbeat)) as events:
            for event in events:
                yield frames.frame(event)
    except StreamGone as error:
        yield frames.closing("gone", job.id, error)
    except GenqueueError as error:
        log.warning("sse.cut job=%s error=%s", job.id, error)
        yield frames.closing("error", job.id, error)
    except GeneratorExit:
        if leave:
            _cancel(job)
        raise


async def _async_frames(job: AsyncJob, after: str | None, heartbeat: float, *, leave: bool) -> AsyncGenerator[str]:
    try:
        yield frames.RETRY
        async with aclosing(job.tail(after, heartbeat=heartbeat)) as events:
            async for event in events:
                yield frames.frame(event)
    except StreamGone as error:
        yield frames.closing("gone", job.id, error)
    except GenqueueError as error:
        log.warning("sse.cut job=%s error=%s", job.id, error)
        yield frames.closing("error", job.id, error)
    except (GeneratorExit, asyncio.CancelledError):
        if leave:
            # Not awaited: whoever is being cancelled may not be let wait.
            task = asyncio.ensure_future(_cancel_async(job))
            _leaving.add(task)
            task.add_done_callback(_leaving.discard)
        raise


def _cancel(job: Job) -> None:
    try:
        job.cancel()
    except GenqueueError as error:
        log.warning("sse.not_cancelled job=%s error=%s; it goes on to its end", job.id, error)


async def _cancel_async(job: AsyncJob) -> None:
    try:
        await job.cancel()
    except GenqueueError as error:
        log.warning("sse.not_cancelled job=%s error=%s; it goes on to its end", job.id, error)
