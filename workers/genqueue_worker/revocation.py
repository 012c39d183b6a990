"""Revoking a task of Celery's ends its flight: what `celery control revoke` and Flower ask for, wherever it is.

A task's id is the flight's with the stamp of one message. So the flight is what is ended, in the ledger, by every
worker that hears of it, and whatever message of it comes later finds that it has ended. In Celery's own set of revoked
ids, which drops a message before any code of ours runs, stands only the id that was named: the next message has
another.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.platforms import signals
from celery.utils.functional import maybe_list
from celery.worker import control
from celery.worker import state as worker_state
from celery.worker.consumer.control import Control
from redis.exceptions import RedisError

from genqueue import ledger
from genqueue.lanes import TASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genqueue.ledger import Departed
    from genqueue_worker.runtime import Runtime

log = logging.getLogger("genqueue.revocation")

#: Seconds between two tries while the data server is away, and for how long it is tried.
RETRY: Final = 0.5
PATIENCE: Final = 60.0

_TASK_ID: Final = re.compile(r"((?:0|[1-9][0-9]{0,4})-[0-9a-f]{20})(?:\.[0-9]{1,20})?")


def flight_of(task_id: object) -> str | None:
    """Return the flight a task's id names, with or without a stamp; None for a task of somebody else's."""
    found = _TASK_ID.fullmatch(task_id) if isinstance(task_id, str) else None
    return found[1] if found else None


async def revoke(runtime: Runtime, flight: str) -> Departed | None:
    """End a flight and return what that did; None when the data server was away for too long."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            departed = ledger.parse_revoke(await runtime.courier.ask(ledger.revoke(runtime.keys, flight)))
        except (RedisError, OSError) as error:
            if time.monotonic() >= give_up:
                log.error("revocation.given_up flight=%s error=%s; revoke it again", flight, error)  # noqa: TRY400
                return None
        else:
            if departed.status == "ended":
                runtime.telemetry.revoked()
            log.info("revocation.done flight=%s status=%s state=%s", flight, departed.status, departed.state)
            return departed
        await asyncio.sleep(RETRY)


class Revocation(bootsteps.StartStopStep):  # type: ignore[misc] # Celery ships no types
    """Step of Celery's consumer: the commands `revoke` and `terminate` of this worker, and of no other app's."""

    requires = (Control,)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._pending: set[Any] = set()

    def start(self, parent: Any) -> None:
        """Take the commands over."""
        node = parent.blueprint[Control.name].box.node
        node.handlers = {**node.handlers, "revoke": self._revoke, "terminate": self._terminate}

    def stop(self, parent: Any) -> None:
        """Do nothing: with the mailbox the commands go."""

    def _terminate(self, state: Any, signal: Any, task_id: Any, **options: Any) -> Any:
        return self._revoke(state, task_id, terminate=True, signal=signal, **options)

    def _revoke(self, state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **options: Any) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        named = set(maybe_list(task_id) or [])
        ours = {name: flight for name in named if (flight := flight_of(name))}
        reply = None
        if len(ours) < len(named) or not named:
            reply = control.revoke(state, sorted(named - ours.keys()), terminate, signal, **options)
        if ours:
            self._end(state.consumer, ours, signal)
            told = f"flights {', '.join(sorted(set(ours.values())))} are being ended"
            reply = control.ok("; ".join(filter(None, (_said(reply), told))))
        return reply

    def _end(self, consumer: Any, ours: dict[str, str], signal: Any) -> None:
        """Stop what runs here, and end the flights in the ledger; on the hub thread."""
        worker_state.revoked.update(set(ours))
        signum = signals.signum(signal or "TERM")
        here = {request.id for request in _running(set(ours.values()))}
        for request in _running(set(ours.values())):
            worker_state.revoked.add(request.id)  # by which the pool knows why
            request.terminate(consumer.pool, signal=signum)

        for flight in set(ours.values()):
            names = [name for name, named in ours.items() if named == flight and name not in here]

            def announce(departed: Departed | None, names: list[str] = names) -> None:
                # One that ran is announced by its worker. A message that waits is, when it comes: too late to be seen
                # in Flower, and never when there is none.
                if departed is not None and departed.status == "ended" and departed.token is None:
                    _announce(consumer, names)

            consumer.app.genqueue_revoke(flight, consumer.pool, announce)


def _running(flights: set[str]) -> list[Any]:
    found = list(worker_state.requests.values())
    return [request for request in found if request.name == TASK and flight_of(request.id) in flights]


def _announce(consumer: Any, names: Iterable[str]) -> None:
    if consumer.event_dispatcher is not None and consumer.event_dispatcher.enabled:
        for name in names:
            consumer.event_dispatcher.send("task-revoked", uuid=name, terminated=False, signum=None, expired=False)


def _said(reply: Any) -> str | None:
    return None if not isinstance(reply, dict) else str(reply.get("ok") or reply.get("error") or "") or None


def revoker(current: Callable[[], Runtime]) -> Callable[[str, Any, Callable[[Departed | None], None]], None]:
    """Return a function that ends a flight on the pool's loop and then calls back on the hub."""

    def start(flight: str, pool: Any, done: Callable[[Departed | None], None]) -> None:
        async def end() -> None:
            pool.call_hub(done, await revoke(current(), flight))

        asyncio.run_coroutine_threadsafe(end(), pool.loop)

    return start
