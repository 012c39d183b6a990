"""Checks of the broker, what waits on it, and the workers that answer through it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from genqueue.dispatch import make_app
from genqueue.lanes import LANES, QUEUES, SUBMIT_QUEUE, queues_of
from genqueue.settings import server_name
from genqueue_worker.doctor.finding import Finding
from genqueue_worker.doctor.server import AWAY, connect, read_info, unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue_worker.settings import WorkerSettings

#: Seconds the workers have to answer.
PATIENCE: Final = 1.0

#: Percent of its memory from which on a broker is nearly full.
CROWDED: Final = 85

#: Queues each worker consumes, by its name.
Workers = dict[str, frozenset[str]]


async def check_fleet(settings: WorkerSettings) -> list[Finding]:
    """Check broker, queues and workers."""
    where = server_name(settings.broker)
    async with connect(settings.broker) as client:
        try:
            depths = [await client.llen(queue) for queue in QUEUES]
        except AWAY as error:
            variable = "GENQUEUE_BROKER_URL" if settings.broker_url else "GENQUEUE_DATA_URL"
            return [unusable("broker", where, error, variable)]
        info = await read_info(client)
    waiting = dict(zip(QUEUES, depths, strict=True))
    # Of the data server the same is said elsewhere.
    apart = where.rpartition("/")[0] != server_name(settings.data_url).rpartition("/")[0]
    about = broker(where, info) if apart else Finding("broker", "ok", where)
    try:
        answers = await asyncio.to_thread(ask_workers, settings.broker)
    except RedisError as error:
        advice = "free memory, or allow this user what a worker is (ops/celery.md): remote control writes to the broker"
        return [about, Finding("workers", "warn", f"cannot be asked: {error}", advice)]
    return [about, queues(waiting, answers), workers(answers)]


def broker(where: str, info: Mapping[str, Any]) -> Finding:
    """Judge a broker that is not the data server: generations it loses are published again, requests are not."""
    if not info:
        advice = "see that its maxmemory-policy is noeviction"
        return Finding("broker", "ok", f"{where}; what it does when memory is short cannot be read", advice)
    if info.get("role", "master") != "master":
        return Finding("broker", "fail", f"{where} is a replica", "set GENQUEUE_BROKER_URL to the primary")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("broker", "fail", f"{where} cannot write its append-only file", "see its log and its disk")
    limit, policy = info.get("maxmemory", 0), info.get("maxmemory_policy", "noeviction")
    found = f"{where}, maxmemory-policy {policy}"
    if limit and policy != "noeviction":
        return Finding(
            "broker", "warn", found, f"set maxmemory-policy noeviction: it may delete {SUBMIT_QUEUE} messages"
        )
    used = 100 * int(info.get("used_memory", 0)) / limit if limit else 0.0
    if used >= CROWDED:
        found = f"{found}, {used:.0f} % of maxmemory {limit / 2**20:.0f} MB used"
        return Finding("broker", "warn", found, "raise maxmemory: when it is full nothing new is taken by workers")
    return Finding("broker", "ok", found)


def ask_workers(broker: str) -> Workers:
    """Return the deployment's workers that answer in time; raises what redis raises when the broker refuses."""
    app = make_app(broker)
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        # It answered a moment ago: kombu's own patience has no end.
        "max_retries": 0,
        "socket_timeout": 2.0,
        # Its own bookkeeping is under names that a user of ours need not have.
        "unacked_key": "genqueue.unacked",
        "unacked_index_key": "genqueue.unacked_index",
        "unacked_mutex_key": "genqueue.unacked_mutex",
    }
    try:
        answers: Mapping[str, Any] = app.control.inspect(timeout=PATIENCE).active_queues() or {}
    except (OperationalError, OSError):
        return {}
    finally:
        app.close()
    consumed = {name: frozenset(queue["name"] for queue in found) for name, found in answers.items()}
    return {name: names & set(QUEUES) for name, names in consumed.items() if names & set(QUEUES)}


def queues(waiting: Mapping[str, int], answers: Workers) -> Finding:
    """Judge what waits, by lane."""
    depths = {lane: sum(waiting[queue] for queue in queues_of(lane)) for lane in LANES}
    found = ", ".join(f"{lane} {depth}" for lane, depth in depths.items()) + " waiting"
    if any(depths.values()) and not answers:
        return Finding("queues", "warn", found, "start a worker: genqueue worker")
    return Finding("queues", "ok", found)


def workers(answers: Workers) -> Finding:
    """Judge whether somebody works, on every lane."""
    if not answers:
        return Finding("workers", "warn", f"none answers within {PATIENCE:g} s", "start one: genqueue worker")
    served = frozenset[str]().union(*answers.values())
    idle = [lane for lane in LANES if not set(queues_of(lane)) <= served]
    found = f"{len(answers)}: " + ", ".join(sorted(answers))
    if idle:
        lanes = ",".join(idle)
        return Finding("workers", "warn", f"{found}; nobody consumes {lanes}", f"genqueue worker --lanes {lanes}")
    return Finding("workers", "ok", found)
