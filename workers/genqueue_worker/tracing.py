"""Run one task as a coroutine with the semantics of `celery.app.trace`.

Ours because Celery's tracer is one synchronous closure: given a coroutine function it returns the coroutine as the
result. What Celery exports is reused (states, signals, log lines, backends, reject and ignore handling). Tests compare
both tracers on the same tasks.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import signals, states
from celery._state import _task_stack
from celery.app import trace as celery_trace
from celery.app.task import Context, Task, get_actual_ignore_result
from celery.canvas import maybe_signature
from celery.exceptions import Ignore, ImproperlyConfigured, Reject, Retry, SoftTimeLimitExceeded
from celery.utils.saferepr import saferepr
from celery.utils.serialization import get_pickleable_etype, get_pickleable_exception
from kombu.exceptions import EncodeError, OperationalError
from kombu.serialization import loads, prepare_accept_content

from genqueue_worker import cancellation

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from celery import Celery

    from genqueue_worker.cancellation import Cancellation

logger = logging.getLogger(__name__)

#: The run around; Celery's own stacks are keyed by thread, and all coroutines share one.
_running: ContextVar[_Run | None] = ContextVar("genqueue_running", default=None)

#: State of a run that its cancellation ended, by reason.
_STATE_OF = {
    cancellation.REVOKED: states.REVOKED,
    cancellation.HARD_LIMIT: states.FAILURE,
    cancellation.SHUTDOWN: states.RETRY,
}


#: Names in a message that are no headers of its sender's own, as Celery has them.
_EVERY_MESSAGE = frozenset({*Context.__dict__, "lang", "task", "argsrepr", "kwargsrepr", "compression"})


class AsyncTask(Task):  # type: ignore[misc] # Celery ships no types
    """Task base that knows the run around it inside coroutines; give it to the app as `task_cls`."""

    abstract = True

    @property
    def request(self) -> Any:
        """The request of the run around; an empty one outside of a run."""
        run = _running.get()
        return run.context if run is not None and run.task.name == self.name else self._get_request()

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Publish the task (blocking, as Celery does); inside a run, `retry` included, as a child of that run."""
        run = _running.get()
        with _current(run) if run is not None else nullcontext():
            return super().apply_async(*args, **options)


class _Context(Context):  # type: ignore[misc] # Celery ships no types
    """Celery's, which for each message finds out anew what every one of them has."""

    def _get_custom_headers(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        found = {name: value for name, value in dict(*args, **kwargs).items() if name not in _EVERY_MESSAGE}
        return found or None


class Message(NamedTuple):
    """What Celery hands a pool for each task: the arguments of its own tracer, in order."""

    name: str
    id: str
    request: dict[str, Any]
    body: Any
    content_type: str | None
    content_encoding: str | None


class Report(NamedTuple):
    """What Celery expects back: `value` is the result's text, or the ExceptionInfo when failed (or retried, ...)."""

    failed: int
    value: Any
    runtime: float


def check_tasks(tasks: Iterable[Any]) -> None:
    """Raise ImproperlyConfigured for coroutine tasks that would go wrong in silence."""
    for task in tasks:
        inner = getattr(task, "_orig_run", None)
        if inspect.iscoroutinefunction(inner):
            raise ImproperlyConfigured(
                f"task {task.name}: autoretry_for does not see what a coroutine raises; raise self.retry() in it"
            )
        if inspect.iscoroutinefunction(task.run) and not isinstance(task, AsyncTask):
            raise ImproperlyConfigured(
                f"task {task.name}: a coroutine task needs the app to be made with "
                "task_cls='genqueue_worker.tracing:AsyncTask'"
            )


@dataclass(slots=True)
class _Run:
    """One execution of a task."""

    task: Any
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    context: Any
    cancellation: Cancellation
    started: float
    state: str | None = None
    value: Any = None

    @property
    def ignores_result(self) -> bool:
        return bool(get_actual_ignore_result(self.task, self.context))

    @property
    def runtime(self) -> float:
        return time.monotonic() - self.started

    @property
    def name(self) -> str:
        return str(celery_trace.get_task_name(self.context, self.task.name))

    def custom(self, hook: str) -> Any:
        """Return the task's own version of a hook, or None."""
        return getattr(self.task, hook) if celery_trace.task_has_custom(self.task, hook) else None


async def trace(app: Celery, hostname: str, message: Message, why: Cancellation) -> Report:
    """Run the task a message names and return the report for Celery's success callback.

    Raises CancelledError when it was cancelled for a reason other than the soft limit, and whatever goes wrong outside
    the task's body, such as arguments that cannot be decoded.
    """
    run = _prepare(app, hostname, message, why)
    cancellation.current.set(why)
    _running.set(run)
    try:
        await _before(app, run)
        report = await _body(app, run)
        if run.state not in celery_trace.IGNORE_STATES:
            _hook(run, "after_return", run.state, run.value, run.id, run.args, run.kwargs, None)
        return report
    finally:
        _as_current(
            run,
            signals.task_postrun.send,
            sender=run.task,
            task_id=run.id,
            task=run.task,
            args=run.args,
            kwargs=run.kwargs,
            retval=run.value,
            state=run.state,
        )


def _prepare(app: Celery, hostname: str, message: Message, why: Cancellation) -> _Run:
    started = time.monotonic()
    if message.content_type:
        accept = prepare_accept_content(app.conf.accept_content)
        args, kwargs, embed = loads(message.body, message.content_type, message.content_encoding, accept=accept)
    else:
        args, kwargs, embed = message.body
    request = {
        **message.request,
        "args": args,
        "kwargs": kwargs,
        "hostname": hostname,
        "is_eager": False,
        **(embed or {}),
    }
    context = _Context(request, args=args, called_directly=False, kwargs=kwargs)
    return _Run(app.tasks[message.name], message.id, args, kwargs, context, why, started)


async def _before(app: Celery, run: _Run) -> None:
    with _current(run):
        signals.task_prerun.send(sender=run.task, task_id=run.id, task=run.task, args=run.args, kwargs=run.kwargs)
        app.loader.on_task_init(run.id, run.task)
    if run.task.track_started and not run.ignores_result:
        meta = {"pid": os.getpid(), "hostname": run.context.hostname}
        store = run.task.backend.store_result
        await _in_thread(run, store, run.id, meta, states.STARTED, request=run.context)


async def _body(app: Celery, run: _Run) -> Report:
    try:
        value = await _call(run)
    except (Reject, Ignore) as error:
        return _put_aside(run, error)
    except Retry as error:
        return await _ended(run, states.RETRY, error, _record_retry)
    except asyncio.CancelledError as error:
        return await _cancelled(run, error)
    except Exception as error:  # noqa: BLE001 - the attempt boundary: whatever a task raises is its failure
        return await _ended(run, states.FAILURE, error, _record_failure)
    except BaseException as error:  # noqa: BLE001 - SystemExit here would end the loop and every other task with it
        lost = WorkerLostError(repr(error)).with_traceback(error.__traceback__)
        return await _ended(run, states.FAILURE, lost, _record_failure)
    return await _succeeded(app, run, value)


async def _call(run: _Run) -> Any:
    """Run the task's function: a coroutine here, anything else in a thread."""
    _hook_before_start(run)
    # Not `run.custom`, which takes Celery's own patch of `Task.__call__` for one.
    function = run.task.run if type(run.task).__call__ is Task.__call__ else run.task
    if inspect.iscoroutinefunction(run.task.run):
        return await function(*run.args, **run.kwargs)
    value = await _in_thread(run, function, *run.args, **run.kwargs)
    return await value if inspect.isawaitable(value) else value


async def _in_thread(run: _Run, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(_as_current, run, function, *args, **kwargs)


def _as_current(run: _Run, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _current(run):
        return function(*args, **kwargs)


@contextmanager
def _current(run: _Run) -> Generator[None]:
    """Make the task current in this thread for a block without `await`, as Celery does for whole runs.

    `current_task`, eager subtasks and the lineage of what is published (parent, children) rest on these stacks; they
    are keyed by thread, so on the loop they may not be left to another coroutine.
    """
    _task_stack.push(run.task)
    run.task.request_stack.push(run.context)
    try:
        yield
    finally:
        run.task.request_stack.pop()
        _task_stack.pop()


def _hook_before_start(run: _Run) -> None:
    hook = run.custom("before_start")
    if hook:
        _as_current(run, hook, run.id, run.args, run.kwargs)


async def _cancelled(run: _Run, error: asyncio.CancelledError) -> Report:
    why = run.cancellation.reason
    if why == cancellation.SOFT_LIMIT:
        limit = SoftTimeLimitExceeded().with_traceback(error.__traceback__)
        return await _ended(run, states.FAILURE, limit, _record_failure)
    if why is None:  # it cancelled itself, or awaited what somebody else cancelled
        return await _ended(run, states.FAILURE, error, _record_failure)
    run.state = _STATE_OF[why]
    raise error


def _put_aside(run: _Run, error: Ignore | Reject) -> Report:
    run.state = states.REJECTED if isinstance(error, Reject) else states.IGNORED
    run.value = error
    info = celery_trace.TraceInfo(run.state, error)
    handle = info.handle_reject if isinstance(error, Reject) else info.handle_ignore
    _as_current(run, handle, run.task, run.context)
    return Report(1, ExceptionInfo((type(error), error, error.__traceback__), internal=True), run.runtime)


async def _ended(run: _Run, state: str, error: BaseException, record: Callable[[_Run, BaseException], Any]) -> Report:
    """Record a failure or retry; in a thread when that talks to a result backend or publishes."""
    run.state, run.value = state, error
    talks = run.context.errbacks or run.context.chord or _stores_errors(run)
    info = await _in_thread(run, record, run, error) if talks else _as_current(run, record, run, error)
    return Report(1, info, run.runtime)


def _stores_errors(run: _Run) -> bool:
    return not run.ignores_result or bool(run.task.store_errors_even_if_ignored)


def _record_failure(run: _Run, error: BaseException) -> ExceptionInfo:
    # Not TraceInfo.handle_failure: it clears the frames of the traceback, and up to Python 3.12 clearing the frame of a
    # suspended coroutine (one that passed its exception on to this task through a future) closes that coroutine.
    task, context = run.task, run.context
    shown = get_pickleable_exception(error)
    if shown.__traceback__ is None:
        shown.__traceback__ = error.__traceback__
    info = ExceptionInfo((get_pickleable_etype(type(error)), shown, shown.__traceback__))
    task.backend.mark_as_failure(
        run.id, shown, info.traceback, request=context, store_result=_stores_errors(run), call_errbacks=True
    )
    task.on_failure(shown, run.id, run.args, run.kwargs, info)
    signals.task_failure.send(
        sender=task,
        task_id=run.id,
        exception=shown,
        args=run.args,
        kwargs=run.kwargs,
        traceback=shown.__traceback__,
        einfo=info,
    )
    celery_trace.TraceInfo(states.FAILURE, shown)._log_error(task, context, info)  # noqa: SLF001 - Celery's log line
    return info


def _record_retry(run: _Run, error: Any) -> ExceptionInfo:
    task, context = run.task, run.context
    info = ExceptionInfo((type(error), error, error.__traceback__))
    if _stores_errors(run):
        task.backend.mark_as_retry(run.id, error.exc, info.traceback, request=context)
    task.on_retry(error.exc, run.id, run.args, run.kwargs, info)
    signals.task_retry.send(sender=task, request=context, reason=error, einfo=info)
    celery_trace.info(celery_trace.LOG_RETRY, {"id": run.id, "name": run.name, "exc": str(error)})
    return info


async def _succeeded(app: Celery, run: _Run, value: Any) -> Report:
    run.state, run.value = states.SUCCESS, value
    context = run.context
    try:
        if context.callbacks or context.chain or context.chord or not run.ignores_result:
            await _in_thread(run, _follow_and_store, app, run, value)
    except (EncodeError, OperationalError) as error:
        return await _ended(run, states.FAILURE, error, _record_failure)
    text = saferepr(value, run.task.resultrepr_maxsize)
    runtime = run.runtime
    _hook(run, "on_success", value, run.id, run.args, run.kwargs)
    _as_current(run, signals.task_success.send, sender=run.task, result=value, runtime=runtime)
    if getattr(run.task, "quiet", False):
        return Report(0, text, runtime)
    celery_trace.info(
        celery_trace.LOG_SUCCESS,
        {
            "id": run.id,
            "name": run.name,
            "return_value": text,
            "runtime": runtime,
            "args": context.argsrepr or saferepr(run.args),
            "kwargs": context.kwargsrepr or saferepr(run.kwargs),
        },
    )
    return Report(0, text, runtime)


def _follow_and_store(app: Celery, run: _Run, value: Any) -> None:
    """Publish what was linked to the task, then store its result, in Celery's order."""
    context = run.context
    options: dict[str, Any] = {"parent_id": run.id, "root_id": context.root_id or run.id}
    if app.conf.task_inherit_parent_priority:
        options["priority"] = context.delivery_info.get("priority")
    for callback in context.callbacks or ():
        maybe_signature(callback, app=app).apply_async((value,), **options)
    if context.chain:
        following = maybe_signature(context.chain[-1], app=app)
        following.apply_async((value,), chain=context.chain[:-1], **options)
    run.task.backend.mark_as_done(run.id, value, context, not run.ignores_result)


def _hook(run: _Run, name: str, *arguments: Any) -> None:
    """Call the task's own hook after its outcome was recorded: what it raises is logged and changes nothing."""
    hook = run.custom(name)
    if hook:
        try:
            _as_current(run, hook, *arguments)
        except Reject:
            raise
        except Exception:
            logger.exception("task.hook_failed hook=%s task=%s id=%s", name, run.name, run.id)
