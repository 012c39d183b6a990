"""Makes the worker's Celery app; importing this makes none."""

from __future__ import annotations

import logging
import warnings
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.exceptions import CPendingDeprecationWarning
from celery.signals import celeryd_after_setup, celeryd_init

from genqueue.dispatch import make_app
from genqueue.errors import SettingsError
from genqueue.lanes import LANES, SUBMIT_QUEUE, queues_of
from genqueue_worker import nursery, tasks
from genqueue_worker.consuming import Watched
from genqueue_worker.event_batches import EventBatches
from genqueue_worker.oversight import overseen
from genqueue_worker.revocation import Revocation, revoker
from genqueue_worker.runtime import Runtime, running
from genqueue_worker.settings import STREAMS_PER_CONNECTION
from genqueue_worker.suitability import check_options, check_queues

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from celery import Celery

    from genqueue.lanes import Lane
    from genqueue_worker.pool import TaskPool
    from genqueue_worker.settings import WorkerSettings


#: Most seconds between two looks for requests whose worker died before it had admitted them.
RESTORE_INTERVAL = 10.0


def make_worker_app(settings: WorkerSettings) -> Celery:
    """Return a Celery app whose workers run generations on the asyncio pool."""
    app = make_app(
        settings.broker,
        worker_pool="genqueue_worker.pool:TaskPool",
        worker_consumer="genqueue_worker.consuming:Consumer",
        worker_concurrency=settings.slots,
        worker_prefetch_multiplier=1,
        # Acknowledged before the claim: the ledger, not the broker, keeps the promise.
        task_acks_late=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        broker_connection_max_retries=None,
        # A server that answers with errors (a failover, a key of another type) may answer otherwise soon.
        broker_channel_error_retry=True,
        genqueue_drain_timeout=settings.drain_timeout,
        result_backend=settings.result_backend.get_secret_value() if settings.result_backend else None,
    )
    # Where a chain or a link goes on that names no queue: not into a lane, but to where stock workers listen.
    app.conf.update(
        task_default_queue="celery",
        task_default_exchange="celery",
        task_default_routing_key="celery",
        task_create_missing_queues=True,
    )
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "queue_order_strategy": "genqueue_worker.slots:Gate",
        # Celery's thread waits as long for each answer of a broker that hangs.
        "socket_timeout": 5.0,
        "visibility_timeout": settings.submit_redelivery,
        "unacked_restore_interval": min(settings.submit_redelivery / 4, RESTORE_INTERVAL),
        "unacked_restore_throttle": 1,
    }
    live: list[Runtime] = []

    @asynccontextmanager
    async def lifespan(pool: TaskPool) -> AsyncIterator[None]:
        check_room(pool.limit, settings)
        with overseen(pool, settings) as oversight:
            lanes, forked = partial(lanes_of, app), app.genqueue_nursery
            async with running(settings, oversight.telemetry, lanes, forked) as runtime:
                live.append(runtime)
                oversight.attend(runtime)
                try:
                    yield
                finally:
                    oversight.attend(None)
                    live.remove(runtime)

    app.genqueue_lifespan = lifespan
    app.genqueue_fork, app.genqueue_nursery = partial(nursery.fork, settings), None
    app.events.dispatcher_cls = "genqueue_worker.event_batches:Dispatcher"
    app.genqueue_revoke = revoker(lambda: live[0])
    app.steps["consumer"].update((EventBatches, Revocation, Watched))
    tasks.register(app, lambda: live[0])
    return app


def lanes_of(app: Celery) -> tuple[Lane, ...]:
    """Return the lanes that the app's worker takes jobs of, as `-Q` and remote control have it."""
    return tuple(lane for lane in LANES if queues_of(lane)[1] in app.amqp.queues.consume_from)


def check_room(slots: int, settings: WorkerSettings) -> None:
    """Raise SettingsError when the provider's connections cannot carry as many streams as there are slots."""
    if slots > settings.max_connections * STREAMS_PER_CONNECTION:
        needed = -(-slots // STREAMS_PER_CONNECTION)
        problem = f"GENQUEUE_MAX_CONNECTIONS: got {settings.max_connections}, expected at least {needed} for -c {slots}"
        raise SettingsError([problem])


@celeryd_init.connect  # type: ignore[untyped-decorator] # Celery ships no types
def consume_by_our_transport(instance: Any, conf: Any, options: Any, **_: object) -> None:
    """Give workers our transport; Flower and remote control know the broker by its URL's scheme."""
    if not hasattr(instance.app, "genqueue_lifespan"):
        return  # somebody else's worker, in a process that imported this
    check_options(options)
    # One line for each request, and attempt.settled says more.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    conf.broker_transport = "genqueue_worker.transport:Transport"


@celeryd_after_setup.connect  # type: ignore[untyped-decorator] # Celery ships no types
def fork_nursery(instance: Any, **_: object) -> None:
    """Fork what forks for suspects, while the worker has one thread and no connection."""
    if hasattr(instance.app, "genqueue_lifespan"):
        instance.app.genqueue_nursery = instance.app.genqueue_fork(instance.loglevel)


@celeryd_after_setup.connect  # type: ignore[untyped-decorator] # Celery ships no types
def consume_what_belongs(instance: Any, **_: object) -> None:
    """Let every worker admit jobs, and whoever consumes a lane its `again` queue too; also under `-Q`."""
    if not hasattr(instance.app, "genqueue_lifespan"):
        return
    # Told at every reconnect, of a setting that is meant as it is.
    warnings.filterwarnings("ignore", r"\s*In Celery 5\.1 we introduced", CPendingDeprecationWarning)
    queues = instance.app.amqp.queues
    check_queues(queues.consume_from)
    queues.select_add(queues[SUBMIT_QUEUE])
    for lane in LANES:
        again, first = queues_of(lane)
        if first in queues.consume_from and again not in queues.consume_from:
            queues.select_add(queues[again])  # by name it would get another exchange
