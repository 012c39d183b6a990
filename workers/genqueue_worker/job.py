"""One accepted task on the loop: its coroutine, its time limits, and which Celery callback ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from billiard.einfo import ExceptionInfo
from celery.exceptions import Terminated

from genqueue_worker import cancellation
from genqueue_worker.cancellation import Cancellation, Reason

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from genqueue_worker.tracing import Message


class Limits(NamedTuple):
    """Time limits of one task in seconds; None is no limit."""

    soft: float | None
    hard: float | None


class Callbacks(NamedTuple):
    """Celery's request of a task, and which of its methods to call when the task ends or runs out of time.

    All of it is for the hub thread.
    """

    request: Any
    success: Callable[[Any], object]
    failure: Callable[[ExceptionInfo], object]
    timeout: Callable[[bool, float], object]


class Ending(NamedTuple):
    """A finished task, its callback and what to call it with; no callback when its end is announced already."""

    job: Job
    callback: Callable[[Any], object] | None
    value: Any

    @property
    def succeeded(self) -> bool:
        """Whether the task returned a value."""
        return isinstance(self.value, tuple) and not self.value[0]


class Job:
    """One accepted task. Made on the hub thread; every method but `terminate` is for the loop.

    Celery keeps a weak reference to it and the number as the task's `worker_pid`.
    """

    __slots__ = ("__weakref__", "callbacks", "cancellation", "limits", "message", "number", "task")

    def __init__(self, number: int, message: Message, limits: Limits, callbacks: Callbacks) -> None:
        self.number = number
        self.message = message
        self.limits = limits
        self.callbacks = callbacks
        self.cancellation = Cancellation()
        self.task: asyncio.Task[Any] | None = None

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        run: Coroutine[Any, Any, Any],
        send: Callable[..., None],
        on_end: Callable[[Ending], None],
    ) -> None:
        """Run the coroutine; `send` calls a function on the hub thread, as `on_end` will be with the ending."""
        self.task = loop.create_task(run, name=f"{self.message.name}[{self.message.id}]")
        timers: list[asyncio.TimerHandle] = []
        if self.limits.soft:
            timers.append(loop.call_later(self.limits.soft, self._expire, cancellation.SOFT_LIMIT, send))
        if self.limits.hard:
            timers.append(loop.call_later(self.limits.hard, self._expire, cancellation.HARD_LIMIT, send))

        def finish(task: asyncio.Task[Any]) -> None:
            for timer in timers:
                timer.cancel()
            if not task.cancelled() and task.exception() is None:
                # Celery cancels what has a start time, in its soft stop too, which holds up the callback.
                self.callbacks.request.time_start = None
            send(on_end, self._ending(task))

        self.task.add_done_callback(finish)

    def cancel(self, reason: Reason) -> None:
        """Cancel the coroutine and tell it why; a finished one keeps its outcome."""
        if self.task is not None and not self.task.done():
            self.cancellation.reason = reason
            self.task.cancel(msg=reason)

    def terminate(self, signal: object = None) -> None:
        """Do nothing: Celery calls this right after the pool's `terminate_job`, which does the work."""

    def _expire(self, reason: Reason, send: Callable[..., None]) -> None:
        soft = reason == cancellation.SOFT_LIMIT
        if self.cancellation.reason in {None, cancellation.SOFT_LIMIT}:
            send(self.callbacks.timeout, soft, self.limits.soft if soft else self.limits.hard)
            self.cancel(reason)

    def _ending(self, task: asyncio.Task[Any]) -> Ending:
        reason = self.cancellation.reason
        if reason == cancellation.HARD_LIMIT:
            task.cancelled() or task.exception()  # taken note of: the limit was announced when it passed
            return Ending(self, None, None)
        if task.cancelled() or reason == cancellation.REVOKED:
            return Ending(self, self.callbacks.failure, _information(Terminated(reason or "cancelled")))
        error = task.exception()
        if error is not None:
            return Ending(self, self.callbacks.failure, _information(error))
        return Ending(self, self.callbacks.success, task.result())


def _information(error: BaseException) -> ExceptionInfo:
    try:
        raise error  # noqa: TRY301 - ExceptionInfo cannot be made of an exception that was never raised
    except BaseException:  # noqa: BLE001 - the one just raised
        return ExceptionInfo()
