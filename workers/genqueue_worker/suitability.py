"""What a worker refuses to start with, and why: options of `celery worker` that cannot do here what they promise."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click
from celery.concurrency import ALIASES
from click.core import ParameterSource

from genqueue.lanes import QUEUES, SUBMIT_QUEUE
from genqueue_worker.pool import TaskPool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def check_options(options: Mapping[str, Any]) -> None:
    """Raise SystemExit with the reason for a pool or a way of scaling that does not suit.

    Args:
        options: keyword arguments of Celery's worker.
    """
    pool = options.get("pool")
    if pool is not None and not (isinstance(pool, type) and issubclass(pool, TaskPool)):
        _refuse_pool(pool)
    if pool is not None and _asked_for_the_default():
        _refuse_pool("prefork")
    slots = _asked_for(sys.argv[1:])
    if slots is not None and not re.fullmatch(r"0*[1-9][0-9]*", slots):
        _refuse(f"-c {slots}: expected the most generations at once, 1 or more; leave it out for GENQUEUE_SLOTS")
    if options.get("autoscale"):
        _refuse(
            "--autoscale: a free slot costs nothing here, so there is nothing to scale: leave it out and set the most "
            "generations at once with -c"
        )


def check_queues(queues: Iterable[str]) -> None:
    """Raise SystemExit for queues, as after `-Q`, that no task of genqueue comes by."""
    known = (*QUEUES, SUBMIT_QUEUE)
    unknown = [queue for queue in queues if queue not in known]
    if unknown:
        _refuse(f"-Q {','.join(unknown)}: no such queue, expected some of {', '.join(known)}")


def _refuse_pool(pool: Any) -> NoReturn:
    path = pool if isinstance(pool, str) else f"{pool.__module__}:{pool.__qualname__}"
    name = next((alias for alias, known in ALIASES.items() if known == path), path)  # as it was asked for
    _refuse(
        f"-P {name}: generations are coroutines on one asyncio loop, which this pool cannot run: leave -P out and set "
        "the most generations at once with -c"
    )


def _asked_for_the_default() -> bool:
    """Tell `-P prefork`, which Celery takes for "no -P" where an app names a pool, from no -P."""
    context = click.get_current_context(silent=True)
    source = context.get_parameter_source("pool") if context is not None else None
    return source in {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Return what was given with -c, None without it: by now Celery has taken 0 for the default, and auto for CPUs."""
    for index, argument in enumerate(arguments):
        if argument in {"-c", "--concurrency"}:
            return arguments[index + 1] if index + 1 < len(arguments) else None
        found = re.match(r"(?:-c|--concurrency=)(.+)", argument)
        if found:
            return found[1]
    return None


def _refuse(reason: str) -> NoReturn:
    raise SystemExit(f"error: {reason}")
