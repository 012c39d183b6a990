"""What the attempts of one worker process share, and its life on the pool's loop."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from genqueue.connections import AsyncConnection, connection_options
from genqueue.dispatch import make_dispatcher
from genqueue.errors import SettingsError
from genqueue.patience import Patience, persist
from genqueue.payload.codec import PLAIN
from genqueue_worker.admission import Admission
from genqueue_worker.cargo import Cargo, Limits
from genqueue_worker.completions.delivery import Deliverer
from genqueue_worker.completions.tellers import tellers
from genqueue_worker.courier import Courier
from genqueue_worker.leases import Leases
from genqueue_worker.memory import return_large_blocks
from genqueue_worker.outage import Outage
from genqueue_worker.providers.connections import PoolOptions
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.seam import Route
from genqueue_worker.providers.transport import ConnectionOptions
from genqueue_worker.settings import GEMINI, NO_KEY, STREAMS_PER_CONNECTION, process_name
from genqueue_worker.sweeper import Servers, Sweeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from genqueue.keys import Keys
    from genqueue.payload.codec import Codec
    from genqueue_worker.providers.seam import Provider
    from genqueue_worker.settings import WorkerSettings

log = logging.getLogger("genqueue.runtime")

#: How long a starting worker waits for the data server.
START_PATIENCE = Patience(reconnect=30.0)

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
        codec: opens what is stored, and seals it.
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
    codec: Codec = PLAIN
    chance: random.Random = field(default_factory=random.SystemRandom)
    away: Outage = field(
        default_factory=lambda: Outage(
            logging.getLogger("genqueue.attempt"), "attempt.away", "attempt.back", "trying again: check the data server"
        )
    )


def connect(url: str, settings: WorkerSettings) -> redis.asyncio.Redis:
    """Return a client with a bounded pool, on which nothing is retried behind our back."""
    options: dict[str, Any] = {**connection_options(settings), "socket_timeout": 5.0}
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=CONNECTIONS, timeout=10, retry=Retry(NoBackoff(), 0), **options
    )
    return redis.asyncio.Redis.from_pool(pool)


def make_provider(settings: WorkerSettings) -> tuple[GeminiProvider, Route]:
    """Return the provider and the route to it."""
    connection = ConnectionOptions(
        connect_timeout=settings.provider_connect_timeout, read_timeout=settings.read_timeout
    )
    pool = PoolOptions(connection, STREAMS_PER_CONNECTION, max_connections=settings.max_connections)
    key = settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else ""
    if not key and settings.gemini_base_url == GEMINI:
        raise SettingsError(["GENQUEUE_GEMINI_API_KEY: not set, expected the key of the Gemini Developer API"])
    ca_file = str(settings.gemini_ca_file) if settings.gemini_ca_file else None
    route = Route("gemini", settings.gemini_base_url, key or NO_KEY, ca_file, settings.gemini_region)
    return GeminiProvider(GeminiOptions(pool=pool)), route


@asynccontextmanager
async def running(settings: WorkerSettings) -> AsyncIterator[Runtime]:
    """Connect, warm the provider's connections, and do the process's background work while the block runs."""
    return_large_blocks()
    provider, route = make_provider(settings)
    name = process_name(settings)
    async with (
        joined(settings) as front,
        connect(settings.data_url, settings) as data,
        connect(settings.broker, settings) as broker,
        tellers(settings, front.keys, front.codec) as told_by,
        provider,
    ):
        keys = front.keys
        inbox = keys.inbox(name)
        courier = Courier(data, keys)
        leases = Leases(data, courier, keys, settings.lease_ms)
        sweeper = Sweeper(Servers(data, broker, courier), keys, make_dispatcher(settings.broker), settings)
        cargo = Cargo(front.blobs, data, keys, Limits(settings.gemini_inline_bytes, settings.blob_memory))
        runtime = Runtime(
            keys, inbox, leases, courier, sweeper, provider, route, Admission(front), cargo=cargo, codec=front.codec
        )
        async with asyncio.TaskGroup() as background:
            deliverer = Deliverer(data, courier, keys, told_by)
            work = (courier.run(), leases.renew(), leases.listen(inbox), sweeper.run(), deliverer.run())
            tasks = [background.create_task(one) for one in work]
            await provider.warm(route)
            log.info("worker.ready name=%s endpoint=%s", name, route.base_url)
            try:
                yield runtime
            finally:
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
