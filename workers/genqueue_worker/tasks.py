"""The Celery tasks: the one that every doorbell rings, and the one that admits jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genqueue.lanes import SUBMIT_TASK, TASK
from genqueue_worker import runner
from genqueue_worker.tracing import AsyncTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from genqueue_worker.runtime import Runtime


def register(app: Celery, current: Callable[[], Runtime]) -> None:
    """Define the tasks on an app; `current` gives the process's runtime."""

    async def generate(self: Any, flight: str, stamp: int) -> str:
        """Run a flight, if the message's stamp is still good; returns the outcome in a word."""
        if not isinstance(flight, str) or type(stamp) is not int:
            raise TypeError(f"expected a flight's id and an integer stamp, got {flight!r:.80} and {stamp!r:.80}")
        runtime = current()
        runtime.sweeper.saw(self.request.delivery_info["routing_key"], stamp)
        return await runner.run(runtime, flight, stamp)

    async def submit(self: Any, *args: Any, **kwargs: Any) -> dict[str, str]:
        """Admit a job; takes the arguments of `Client.submit`."""
        return await current().admission.admit(self.request, args, kwargs)

    app.task(generate, name=TASK, bind=True, base=AsyncTask, Strategy="genqueue_worker.strategy:quiet", quiet=True)
    app.task(
        submit,
        name=SUBMIT_TASK,
        bind=True,
        base=AsyncTask,
        Request="genqueue_worker.admission:QuietRequest",
        # Its message is the only copy of the request.
        acks_late=True,
        ignore_result=app.conf.result_backend is None,
        throws=(ValueError, LookupError),
    )
