"""Makes the worker's Celery app; importing this makes none."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from celery.signals import celeryd_after_setup, celeryd_init

from genqueue.dispatch import make_app
from genqueue.lanes import LANES, queues_of
from genqueue_worker import tasks
from genqueue_worker.event_batches import EventBatches
from genqueue_worker.runtime import Runtime, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from celery import Celery

    from genqueue_worker.pool import TaskPool
    from genqueue_worker.settings import WorkerSettings


def make_worker_app(settings: WorkerSettings) -> Celery:
    """Return a Celery app whose workers run generations on the asyncio pool."""
    app = make_app(
        settings.broker,
        worker_pool="genqueue_worker.pool:TaskPool",
        worker_concurrency=settings.slots,
        worker_prefetch_multiplier=1,
        # Acknowledged before the claim: the ledger, not the broker, keeps the promise.
        task_acks_late=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        broker_connection_max_retries=None,
        genqueue_drain_timeout=settings.drain_timeout,
    )
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "queue_order_strategy": "genqueue_worker.slots:Gate",
    }
    live: list[Runtime] = []

    @asynccontextmanager
    async def lifespan(_pool: TaskPool) -> AsyncIterator[None]:
        async with running(settings) as runtime:
            live.append(runtime)
            try:
                yield
            finally:
                live.remove(runtime)

    app.genqueue_lifespan = lifespan
    app.steps["consumer"].add(EventBatches)
    tasks.register(app, lambda: live[0])
    return app


@celeryd_init.connect  # type: ignore[untyped-decorator] # Celery ships no types
def consume_by_our_transport(conf: Any, **_: object) -> None:
    """Give workers our transport; Flower and remote control know the broker by its URL's scheme."""
    conf.broker_transport = "genqueue_worker.transport:Transport"


@celeryd_after_setup.connect  # type: ignore[untyped-decorator] # Celery ships no types
def consume_again_queues(instance: Any, **_: object) -> None:
    """Let whoever consumes a lane consume its `again` queue too, also under `-Q`."""
    queues = instance.app.amqp.queues
    for lane in LANES:
        again, first = queues_of(lane)
        if first in queues.consume_from and again not in queues.consume_from:
            queues.select_add(queues[again])  # by name it would get another exchange
