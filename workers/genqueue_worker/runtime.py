"""What the attempts of one worker process share, and its life on the pool's loop."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import redis.asyncio
import redis.asyncio.connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from genqueue.connections import AsyncConnection, Sending, connection_options
from genqueue.dispatch import make_dispatcher
from genqueue.patience import Patience, persist
from genqueue.payload.codec import PLAIN
from genqueue_worker.access import Access, Doors, Served
from genqueue_worker.admission import Admission
from genqueue_worker.cargo import Cargo, Limits
from genqueue_worker.completions.delivery import Deliverer
from genqueue_worker.completions.tellers import tellers
from genqueue_worker.courier import Courier
from genqueue_worker.leases import Leases
from genqueue_worker.membership import stay
from genqueue_worker.memory import collect_seldom, return_large_blocks
from genqueue_worker.model_file import read_table
from genqueue_worker.outage import Outage
from genqueue_worker.packing import Packing
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import PoolOptions
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.openai import OpenAIProvider
from genqueue_worker.routes import make_routes
from genqueue_worker.settings import STREAMS_PER_CONNECTION, process_name
from genqueue_worker.shown import Streams
from genqueue_worker.slots import SLOTS
from genqueue_worker.solo import Process, Solo
from genqueue_worker.stalls import Stalls
from genqueue_worker.sweeper import Servers, Sweeper
from genqueue_worker.telemetry import Telemetry
from genqueue_worker.warmth import Warmth
from genqueue_worker.ways import Way, Ways

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue.payload.codec import Codec
    from genqueue_worker.providers.seam import Kind, Provider
    from genqueue_worker.settings import WorkerSettings

log = logging.getLogger("genqueue.runtime")

#: How long a starting worker waits for the data server.
START_PATIENCE = Patience(reconnect=30.0)

#: Seconds by which a connection waits longer than a silence may last.
READ_MARGIN = 5.0

#: Seconds for which a worker that one provider has answered waits for the others before it takes jobs.
OTHERS_PATIENCE = 3.0

#: Connections to the data server; a call that finds none free waits for one.
CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Runtime:
    """What attempts share.

    Attributes:
        keys: spells the deployment's keys.
        inbox: channel on which this process hears that a flight was taken from it.
        ways: to the models, by what jobs say.
        admission: admits jobs that come as Celery messages.
        cargo: fetches inline data from the blob store.
        solo: runs suspects in processes of their own; None in such a process, which runs one flight, alone.
        streams: what flights have shown so far.
        stalls: how long a provider may be silent.
        codec: opens what is stored, and seals it.
        telemetry: counts what becomes of attempts and flights.
    """

    keys: Keys
    inbox: str
    leases: Leases
    courier: Courier
    sweeper: Sweeper
    ways: Ways
    admission: Admission
    cargo: Cargo
    streams: Streams
    solo: Solo | None = None
    stalls: Stalls = field(default_factory=Stalls)
    codec: Codec = PLAIN
    telemetry: Telemetry = field(default_factory=Telemetry)
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
    options["connection_class"] = type(f"Sending{plain.__name__}", (Sending, Packing, plain), {})
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=CONNECTIONS, timeout=10, retry=Retry(NoBackoff(), 0), **options
    )
    return redis.asyncio.Redis.from_pool(pool)


def make_providers(settings: WorkerSettings) -> dict[Kind, Provider]:
    """Return a provider for each kind; none of them has connected yet."""
    connection = ConnectionOptions(
        connect_timeout=settings.provider_connect_timeout,
        # What a token is waited for is cut by `stalls`, which says more; this comes after it.
        read_timeout=max(settings.read_timeout, settings.stalls.longest + READ_MARGIN),
        transport=settings.transport,
    )
    pool = PoolOptions(
        connection,
        STREAMS_PER_CONNECTION,
        settings.warm_connections,
        settings.max_connections,
        kept_connections=settings.kept_connections,
        idle_expiry=settings.idle_expiry,
        total_timeout=settings.total_timeout,
    )
    google = GeminiProvider(GeminiOptions(pool=pool))
    return {"gemini": google, "vertex": google, "openai": OpenAIProvider(pool)}


@asynccontextmanager
async def open_ways(settings: WorkerSettings, marks: Callable[[str], Served], *, alone: bool) -> AsyncIterator[Ways]:
    """Give the ways to the models while the block runs; afterwards all of their connections are closed.

    Args:
        settings: the worker's.
        marks: makes the marks of the lanes served with a provider.
        alone: whether one flight runs in this process, for which no connection is opened in advance.

    Raises:
        SettingsError: no provider is configured, or the model table is wrong.
    """
    routes = make_routes(settings)
    table = read_table(settings.models_file, routes)
    providers, doors = make_providers(settings), Doors(SLOTS)
    async with AsyncExitStack() as closing:
        for provider in {id(provider): provider for provider in providers.values()}.values():
            await closing.enter_async_context(aclosing(provider))
        ways: dict[Kind, Way] = {}
        for kind, route in routes.items():
            provider = providers[kind]
            access = Access(provider, route, marks(route.name), settings.key_patience, doors)
            ways[kind] = Way(provider, route, access, None if alone else Warmth(provider, route))
        yield Ways(table, ways)


@asynccontextmanager
async def running(
    settings: WorkerSettings,
    telemetry: Telemetry,
    lanes: Callable[[], Sequence[Lane]] | None,
    nursery: Process | None = None,
) -> AsyncIterator[Runtime]:
    """Connect, warm the providers' connections, and do the process's background work while the block runs.

    Args:
        settings: the worker's.
        telemetry: counts what is done.
        lanes: returns those the worker takes jobs of; None for one flight in a process of its own, without the work
            that is the worker's.
        nursery: forks for suspects; see `Solo`.
    """
    return_large_blocks()
    collect_seldom()
    alone = lanes is None
    async with (
        joined(settings) as front,
        connect(settings.data_url, settings) as data,
        connect(settings.broker, settings) as broker,
        open_ways(settings, partial(Served, data, front.keys, lanes=lanes or tuple), alone=alone) as ways,
    ):
        keys = front.keys
        courier = Courier(data, keys)
        servers = Servers(data, broker, courier)
        runtime = Runtime(
            keys,
            keys.inbox(process_name(settings)),
            Leases(data, courier, keys, settings.lease_ms),
            courier,
            Sweeper(servers, keys, make_dispatcher(settings.broker), settings, telemetry),
            ways,
            Admission(front),
            Cargo(front.blobs, data, keys, Limits(settings.gemini_inline_bytes, settings.blob_memory)),
            Streams(data, keys, front.codec),
            solo=None if alone else Solo(settings, telemetry, nursery),
            stalls=settings.stalls,
            codec=front.codec,
            telemetry=telemetry,
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
    solo = runtime.solo
    assert solo is not None  # noqa: S101 - as it was made
    async with (
        tellers(settings, front.keys, front.codec) as told_by,
        asyncio.TaskGroup() as background,
    ):
        deliverer = Deliverer(servers.data, runtime.courier, front.keys, told_by)
        tasks = [background.create_task(one) for one in (stay(front), runtime.sweeper.run(), deliverer.run())]
        tasks += await prepared(runtime.ways, background)
        tasks += [background.create_task(chore) for way in runtime.ways for chore in way.chores()]
        endpoints = ",".join(way.route.base_url for way in runtime.ways)
        log.info("worker.ready name=%s endpoint=%s", process_name(settings), endpoints)
        try:
            yield
        finally:
            await solo.aclose()
            await end(tasks)


async def prepared(ways: Ways, background: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
    """Ask every provider for the first time, and return those that are still being asked though another serves."""
    asking = [background.create_task(way.prepare()) for way in ways]
    _, late = await asyncio.wait(asking, timeout=OTHERS_PATIENCE)
    if late and not any(way.has_answered for way in ways):
        _, late = await asyncio.wait(late)
    return list(late)


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
