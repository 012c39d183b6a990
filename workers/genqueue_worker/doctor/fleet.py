"""Checks of the broker, what waits on it, and the workers that answer through it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import OperationalError

from genqueue.dispatch import make_app
from genqueue.lanes import LANES, QUEUES, queues_of
from genqueue.settings import server_name
from genqueue_worker.doctor.finding import Finding
from genqueue_worker.doctor.server import AWAY, connect, unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue_worker.settings import WorkerSettings

#: Seconds the workers have to answer.
PATIENCE: Final = 1.0

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
    answers = await asyncio.to_thread(ask_workers, settings.broker)
    waiting = dict(zip(QUEUES, depths, strict=True))
    return [Finding("broker", "ok", where), queues(waiting, answers), workers(answers)]


def ask_workers(broker: str) -> Workers:
    """Return the deployment's workers that answer in time."""
    app = make_app(broker)
    # It answered a moment ago: kombu's own patience has no end.
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "max_retries": 0, "socket_timeout": 2.0}
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
