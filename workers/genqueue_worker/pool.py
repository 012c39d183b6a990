"""The asyncio pool for Celery: every task is a coroutine on one uvloop loop that has a thread of its own.

Set `worker_pool = "genqueue_worker.pool:TaskPool"`. Celery's consumer and hub stay on the main thread, and every Celery
callback runs there, in order. Two things of the Celery app are read:

- attribute `genqueue_lifespan`: a callable (pool) -> async context manager, entered on the loop before the worker
  consumes and left after the drain. When it fails at the start the worker exits with status 1; when it ends by itself
  (a task group of its lost a task) the worker stops with status 1.
- setting `genqueue_drain_timeout`: seconds running tasks may go on after a warm stop (default 20).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvloop
from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import ImproperlyConfigured
from celery.utils import log as celery_log
from celery.utils.functional import maybe_list
from celery.worker import state as worker_state

from genqueue_worker import cancellation
from genqueue_worker.cancellation import CLEANUP_GRACE, Reason
from genqueue_worker.job import Callbacks, Ending, Job, Limits
from genqueue_worker.relay import Relay, guarded
from genqueue_worker.slots import SLOTS
from genqueue_worker.tracing import Message, check_tasks, trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

logger = logging.getLogger(__name__)

#: Seconds running tasks may go on after a warm stop unless `genqueue_drain_timeout` says otherwise.
DRAIN_TIMEOUT: Final = 20.0
#: Seconds the lifespan may take to end.
LIFESPAN_GRACE: Final = 10.0
#: Seconds to wait for the loop's thread, which goes on while a task ignores its cancellation.
JOIN_GRACE: Final = 1.0
#: Seconds between two looks at the clock while draining; whatever finishes is handled at once.
_TICK: Final = 0.1
#: Threads for tasks that are plain functions, for result backends and for name lookups.
_THREADS: Final = 32
#: Seconds after which a busy thread must hand the interpreter on; the loop and the hub trade it all the time, and with
#: Python's 5 ms a busy loop holds up each step of a pick-up by as much.
SWITCH_INTERVAL: Final = 0.001
#: Exit status when the lifespan failed.
_FAILED: Final = 1


class TaskPool(BasePool):  # type: ignore[misc] # Celery ships no types
    """Celery pool that runs coroutines; `limit` of them at once when `genqueue_worker.slots.Gate` orders the queues.

    Attributes:
        loop: the loop that runs the tasks and the lifespan; set once the pool started.
    """

    signal_safe = False  # a stop must wait for tasks, which a signal handler must not

    limit: int
    loop: asyncio.AbstractEventLoop

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._relay = Relay()
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._closing: asyncio.Event
        self._starting: asyncio.Task[Any] | None = None
        self._left = threading.Event()
        self._thread: threading.Thread | None = None
        self._stop_signals = 0
        self._refusing = False

    # Starting: on the main thread, before the hub runs.

    def on_start(self) -> None:
        """Start the loop, enter the lifespan and wait for it; raises SystemExit when that fails."""
        if self.options.get("threads"):
            raise ImproperlyConfigured("TaskPool needs a broker with an event loop: redis://, rediss:// or amqp://")
        check_tasks(self.app.tasks.values())
        SLOTS.limit = self.limit
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run_loop, args=(ready,), name="genqueue-loop", daemon=True)
        self._thread.start()
        error = self._await_start(ready)
        if error is not None:
            self._thread.join(JOIN_GRACE)
            logger.critical("pool.start_failed error=%s", _one_line(error))
            logger.debug("pool.start_failed", exc_info=error)
            raise SystemExit(_FAILED)
        signals.worker_shutting_down.connect(self._count_stop_signal)
        signals.worker_process_init.send(sender=self._hostname)

    def _await_start(self, ready: Future[None]) -> BaseException | None:
        """Wait until the lifespan is entered or has failed; raises SystemExit when the worker is told to end before."""
        while True:
            with suppress(TimeoutError):
                return ready.exception(_TICK)
            try:
                worker_state.maybe_shutdown()
            except SystemExit:
                if self._starting is not None:
                    self.loop.call_soon_threadsafe(self._starting.cancel)
                if self._thread is not None:
                    self._thread.join(LIFESPAN_GRACE)
                self._thread = None
                raise

    def register_with_event_loop(self, hub: Any) -> None:
        """Send callbacks to this hub; Celery calls it again after each reconnect."""
        self._relay.attach(hub)

    # Running: on the hub thread.

    def on_apply(
        self,
        _target: object,
        args: tuple[Any, ...] = (),
        _kwargs: object = None,
        accept_callback: Callable[[int, float], object] | None = None,
        **options: Any,
    ) -> Job:
        """Accept a task and start it on the loop; never blocks. Celery's own tracer comes first and is not used."""
        success, failure = options["callback"], options["error_callback"]  # bound methods of Celery's request
        callbacks = Callbacks(success.__self__, success, failure, options["timeout_callback"])
        job = Job(next(self._numbers), Message(*args), self._limits(callbacks.request), callbacks)
        if self._refusing or not self._running:
            return job  # the worker is stopping: not accepted, so Celery hands the message back
        self._jobs[job.number] = job
        SLOTS.take()
        self.loop.call_soon_threadsafe(self._launch, job)  # first, as accepting may already terminate it
        if accept_callback is not None:
            guarded(accept_callback, job.number, time.monotonic())
        return job

    def terminate_job(self, pid: int, _signal: object = None) -> None:
        """Cancel the task that was accepted with this number: it was revoked, or Celery is stopping."""
        job = self._jobs.get(pid)
        if job is not None and self._running:
            reason: Reason = cancellation.REVOKED if _was_revoked(job.callbacks.request) else cancellation.SHUTDOWN
            self.loop.call_soon_threadsafe(partial(job.cancel, reason))

    def grow(self, n: int = 1) -> None:
        """Allow n more tasks at once."""
        self.limit += n
        SLOTS.limit = self.limit

    def shrink(self, n: int = 1) -> None:
        """Allow n tasks less at once, at least one; running ones go on."""
        self.limit = max(1, self.limit - n)
        SLOTS.limit = self.limit

    def call_hub(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have a function called on the hub thread soon; safe from any thread."""
        self._relay.send(function, *arguments)

    def give_up(self) -> None:
        """End the worker as SIGTERM does, with status 1; safe from any thread."""
        self._refusing = True
        worker_state.should_stop = _FAILED
        self._relay.wake()

    def hand_back(self) -> None:
        """Cancel what runs though the hub does not turn; in a thread of neither hub nor loop, until they ended."""

        async def cancel_all() -> None:
            for job in (jobs := list(self._jobs.values())):
                job.cancel(cancellation.SHUTDOWN)
            tasks = [job.task for job in jobs if job.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=CLEANUP_GRACE)

        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(cancel_all(), self.loop).result(CLEANUP_GRACE + JOIN_GRACE)

    def _limits(self, request: Any) -> Limits:
        # Not the `timeout` options of on_apply: those hold the task's limits as they were when the worker connected,
        # before any remote control command `time_limit`.
        hard, soft = request.time_limits
        return Limits(
            soft or request.task.soft_time_limit or self.options.get("soft_timeout"),
            hard or request.task.time_limit or self.options.get("timeout"),
        )

    def _retire(self, ending: Ending) -> None:
        request = ending.job.callbacks.request
        try:
            if getattr(request, "_already_cancelled", False):
                _acknowledge_success(request, ending)
            elif ending.callback is not None:
                ending.callback(ending.value)
        finally:
            if self._jobs.pop(ending.job.number, None) is not None:
                SLOTS.give()

    def _get_info(self) -> dict[str, Any]:
        return {
            **super()._get_info(),
            "processes": [os.getpid()],
            "running": len(self._jobs),
            "max-tasks-per-child": "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [self.options.get("soft_timeout") or 0, self.options.get("timeout") or 0],
        }

    # Stopping: on the main thread, the hub not running.

    def on_stop(self) -> None:
        """Let running tasks end for `genqueue_drain_timeout` seconds or until a second stop signal, then finish."""
        if celery_log._in_sighandler:  # noqa: SLF001 - Celery has no other sign of it
            # Celery's cold stop calls this inside its signal handler. What the signal interrupted may hold a lock of
            # the event dispatcher or stand in the middle of a command on the broker's connection, so nothing of Celery
            # may be touched here: `on_terminate`, or the drain that was interrupted, does the rest.
            self._relay.wake()
            return
        if not self._running:
            return
        timeout = float(self.app.conf.get("genqueue_drain_timeout", DRAIN_TIMEOUT))
        signals_before = min(self._stop_signals, 1)
        self._pump_while(lambda: self._busy() and self._stop_signals <= signals_before, timeout)
        if self._busy():
            logger.warning("pool.drain_ended running=%d timeout=%.1fs: they are cancelled", len(self._jobs), timeout)
        self._finish()

    def on_terminate(self) -> None:
        """Finish without a drain."""
        if self._running:
            self._finish()

    def _finish(self) -> None:
        """Cancel what runs, wait for its cleanup, then leave the lifespan and end the loop."""
        self._cancel_all()
        self._pump_while(lambda: bool(self._jobs), CLEANUP_GRACE)
        for job in self._jobs.values():
            name, grace = job.message.name, CLEANUP_GRACE
            logger.warning("pool.task_left task=%s: it did not end within %.1fs of its cancellation", name, grace)
        guarded(self.loop.call_soon_threadsafe, self._closing.set)
        self._pump_while(lambda: not self._left.is_set(), LIFESPAN_GRACE)
        if not self._left.is_set():
            logger.warning("pool.lifespan_left after=%.1fs: genqueue_lifespan did not end", LIFESPAN_GRACE)
        if self._thread is not None:
            self._thread.join(JOIN_GRACE)
        self._thread = None
        signals.worker_shutting_down.disconnect(self._count_stop_signal)

    def _busy(self) -> bool:
        """Whether a task runs that nobody cancelled for good."""
        settled = {cancellation.SHUTDOWN, cancellation.REVOKED, cancellation.HARD_LIMIT}
        return any(job.cancellation.reason not in settled for job in self._jobs.values())

    def _cancel_all(self) -> None:
        self._relay.run()  # those that ended have their own outcome
        for job in list(self._jobs.values()):
            if job.cancellation.reason != cancellation.SHUTDOWN:
                # As Celery's own cold stop does: announced as cancelled, and left unacknowledged if it still was.
                request = job.callbacks.request
                guarded(request.cancel, self, None, not request.task.acks_late)

    def _pump_while(self, going_on: Callable[[], bool], patience: float) -> None:
        give_up = time.monotonic() + patience
        while going_on() and time.monotonic() < give_up:
            self._relay.pump(_TICK)
        self._relay.pump(0)

    def _count_stop_signal(self, **_: object) -> None:
        self._stop_signals += 1
        self._relay.wake()

    @property
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def _hostname(self) -> str:
        return str((self.options.get("initargs") or (None, ""))[1])

    # The loop's thread.

    def _run_loop(self, ready: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live(ready))
        except BaseException as error:  # noqa: BLE001 - a SystemExit in somebody's asyncio task ends the loop
            self._relay.send(self._lost, error)

    async def _live(self, ready: Future[None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        self.loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="genqueue-sync"))
        self._closing = asyncio.Event()
        try:
            async with self._lifespan():
                ready.set_result(None)
                await self._closing.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            elif isinstance(error, asyncio.CancelledError):
                raise  # the loop itself ends: the thread says why
            else:
                self._relay.send(self._lost, error)
                await self._closing.wait()  # the loop stays, for the running tasks to end on
        finally:
            self._left.set()
            self._relay.wake()

    def _lifespan(self) -> AbstractAsyncContextManager[object]:
        enter = getattr(self.app, "genqueue_lifespan", None)
        return enter(self) if enter is not None else nullcontext()

    def _lost(self, error: BaseException) -> None:
        """Stop the worker: nothing can run without the lifespan or the loop."""
        logger.critical("pool.lost error=%s: the worker stops", _one_line(error), exc_info=error)
        self._refusing = True
        self._cancel_all()
        worker_state.should_stop = _FAILED

    def _launch(self, job: Job) -> None:
        run = trace(self.app, self._hostname, job.message, job.cancellation)
        job.start(self.loop, run, self._relay.send, self._retire)


def _acknowledge_success(request: Any, ending: Ending) -> None:
    """Announce nothing: Celery has announced the task as cancelled; but what succeeded need not come again."""
    if request.task.acks_late and ending.succeeded:
        request.acknowledge()


def _was_revoked(request: Any) -> bool:
    if request.id in worker_state.revoked:
        return True
    stamps = request.stamps or {}
    return any(
        not set(maybe_list(stamps[header])).isdisjoint(maybe_list(revoked))
        for header, revoked in worker_state.revoked_stamps.items()
        if header in stamps
    )


def _one_line(error: BaseException) -> str:
    """Return what went wrong in one line; of a group, its first member."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {' | '.join(str(error).split(chr(10)))}"
