"""What the attempts of one worker process share, and its life on the pool's loop."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis.asyncio
import redis.asyncio.connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from genqueue.connections import AsyncConnection, Sending, connection_options
from genqueue.dispatch import make_dispatcher
from genqueue.errors import SettingsError
from genqueue.patience import Patience, persist
from genqueue.payload.codec import PLAIN
from genqueue_worker.access import Access, Served
from genqueue_worker.admission import Admission
from genqueue_worker.cargo import Cargo, Limits
from genqueue_worker.completions.delivery import Deliverer
from genqueue_worker.completions.tellers import tellers
from genqueue_worker.courier import Courier
from genqueue_worker.leases import Leases
from genqueue_worker.membership import stay
from genqueue_worker.memory import return_large_blocks
from genqueue_worker.outage import Outage
from genqueue_worker.providers.connections import PoolOptions
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.http2 import ConnectionOptions
from genqueue_worker.providers.seam import Route
from genqueue_worker.settings import GEMINI, NO_KEY, STREAMS_PER_CONNECTION, process_name
from genqueue_worker.shown import Streams
from genqueue_worker.solo import Process, Solo
from genqueue_worker.stalls import Stalls
from genqueue_worker.sweeper import Servers, Sweeper
from genqueue_worker.telemetry import Telemetry
from genqueue_worker.warmth import Warmth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue.payload.codec import Codec
    from genqueue_worker.providers.seam import Provider
    from genqueue_worker.settings import WorkerSettings

log = logging.getLogger("genqueue.runtime")

#: How long a starting worker waits for the data server.
START_PATIENCE = Patience(reconnect=30.0)

#: Seconds by which a connection waits longer than a silence may last.
READ_MARGIN = 5.0

#: Connections to the data server; a call that finds none free waits for one.
CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Runtime:
    """What attempts share.

    Attributes:
        keys: spells the deployment's keys.
        inbox: channel on which this process hears that a flight was taken from it.
        admission: admits jobs that come as Celery messages.
        cargo: fetches inline data from the blob store.
        solo: runs suspects in processes of their own; None in such a process, which runs one flight, alone.
        streams: what flights have shown so far.
        access: whether the provider takes the key.
        stalls: how long the provider may be silent.
        codec: opens what is stored, and seals it.
        telemetry: counts what becomes of attempts and flights.
        warmth: whether the provider has answered; None where one flight runs alone.
    """

    keys: Keys
    inbox: str
    leases: Leases
    courier: Courier
    sweeper: Sweeper
    provider: Provider
    route: Route
    admission: Admission
    cargo: Cargo
    streams: Streams
    solo: Solo | None = None
    access: Access | None = None
    stalls: Stalls = field(default_factory=Stalls)
    codec: Codec = PLAIN
    telemetry: Telemetry = field(default_factory=Telemetry)
    warmth: Warmth | None = None
    chance: random.Random = field(default_factory=random.SystemRandom)
    away: Outage = field(
        default_factory=lambda: Outage(
            logging.getLogger("genqueue.attempt"), "attempt.away", "attempt.back", "trying again: check the data server"
        )
    )


def connect(url: str, settings: WorkerSettings) -> redis.asyncio.Redis:
    """Return a client with a bounded pool, on which nothing is retried behind our back."""
    options: dict[str, Any] = {**connection_options(settings), "socket_timeout": 5.0}
    plain: Any = dict(redis.asyncio.connection.parse_url(url)).get("connection_class", redis.asyncio.Connection)
    options["connection_class"] = type(f"Sending{plain.__name__}", (Sending, plain), {})
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=CONNECTIONS, timeout=10, retry=Retry(NoBackoff(), 0), **options
    )
    return redis.asyncio.Redis.from_pool(pool)


def make_provider(settings: WorkerSettings) -> tuple[GeminiProvider, Route]:
    """Return the provider and the route to it."""
    connection = ConnectionOptions(
        connect_timeout=settings.provider_connect_timeout,
        # What a token is waited for is cut by `stalls`, which says more; this comes after it.
        read_timeout=max(settings.read_timeout, settings.stalls.longest + READ_MARGIN),
    )
    pool = PoolOptions(connection, STREAMS_PER_CONNECTION, max_connections=settings.max_connections)
    key = settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else ""
    if not key and settings.gemini_base_url == GEMINI:
        raise SettingsError(["GENQUEUE_GEMINI_API_KEY: not set, expected the key of the Gemini Developer API"])
    ca_file = str(settings.gemini_ca_file) if settings.gemini_ca_file else None
    route = Route("gemini", settings.gemini_base_url, key or NO_KEY, ca_file, settings.gemini_region)
    return GeminiProvider(GeminiOptions(pool=pool)), route


@asynccontextmanager
async def running(
    settings: WorkerSettings,
    telemetry: Telemetry,
    lanes: Callable[[], Sequence[Lane]] | None,
    nursery: Process | None = None,
) -> AsyncIterator[Runtime]:
    """Connect, warm the provider's connections, and do the process's background work while the block runs.

    Args:
        settings: the worker's.
        telemetry: counts what is done.
        lanes: returns those the worker takes jobs of; None for one flight in a process of its own, without the work
            that is the worker's.
        nursery: forks for suspects; see `Solo`.
    """
    return_large_blocks()
    provider, route = make_provider(settings)
    async with (
        joined(settings) as front,
        connect(settings.data_url, settings) as data,
        connect(settings.broker, settings) as broker,
        provider,
    ):
        keys = front.keys
        courier = Courier(data, keys)
        alone = lanes is None
        servers = Servers(data, broker, courier)
        runtime = Runtime(
            keys,
            keys.inbox(process_name(settings)),
            Leases(data, courier, keys, settings.lease_ms),
            courier,
            Sweeper(servers, keys, make_dispatcher(settings.broker), settings, telemetry),
            provider,
            route,
            Admission(front),
            Cargo(front.blobs, data, keys, Limits(settings.gemini_inline_bytes, settings.blob_memory)),
            Streams(data, keys, front.codec),
            solo=None if alone else Solo(settings, telemetry, nursery),
            access=Access(provider, route, Served(data, keys, lanes or tuple), settings.key_patience),
            stalls=settings.stalls,
            codec=front.codec,
            telemetry=telemetry,
            warmth=None if alone else Warmth(provider, route),
        )
        async with asyncio.TaskGroup() as background:
            work = [courier.run(), runtime.leases.renew(), runtime.leases.listen(runtime.inbox)]
            tasks = [background.create_task(one) for one in work]
            try:
                async with nullcontext() if alone else on_duty(runtime, front, servers, settings):
                    yield runtime
            finally:
                await end(tasks)


@asynccontextmanager
async def on_duty(
    runtime: Runtime, front: AsyncConnection, servers: Servers, settings: WorkerSettings
) -> AsyncIterator[None]:
    """Do what is a worker's, not a single flight's, while the block runs; its suspects end behind it."""
    solo, warmth, access = runtime.solo, runtime.warmth, runtime.access
    assert solo is not None and warmth is not None and access is not None  # noqa: S101, PT018 - as it was made
    async with (
        tellers(settings, front.keys, front.codec) as told_by,
        asyncio.TaskGroup() as background,
    ):
        deliverer = Deliverer(servers.data, runtime.courier, front.keys, told_by)
        tasks = [background.create_task(one) for one in (stay(front), runtime.sweeper.run(), deliverer.run())]
        if not await warmth.warm_up():
            await access.try_key()
        tasks += [background.create_task(access.run()), background.create_task(warmth.run())]
        log.info("worker.ready name=%s endpoint=%s", process_name(settings), runtime.route.base_url)
        try:
            yield
        finally:
            await solo.aclose()
            await end(tasks)


@asynccontextmanager
async def joined(settings: WorkerSettings) -> AsyncIterator[AsyncConnection]:
    """Connect as the SDK does, and join the deployment."""
    connection = AsyncConnection(settings)
    try:
        await connection.run(persist(connection.deployment.enter, START_PATIENCE))
        yield connection
    finally:
        await connection.aclose()


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: under Python 3.11 a redis command may swallow a cancellation."""
    while running_on := [task for task in tasks if not task.done()]:
        for task in running_on:
            task.cancel()
        await asyncio.wait(running_on, timeout=0.1)
