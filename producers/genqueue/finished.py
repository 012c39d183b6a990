"""Following the jobs that end, of all partitions, as a consumer of a group."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from genqueue import ledger
from genqueue.errors import InvalidRequest, ServerUnavailable
from genqueue.fingerprint import sound
from genqueue.patience import Patience, persist
from genqueue.settings import server_name
from genqueue.steps import Pause, RunMany

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue.deployment import Deployment
    from genqueue.lanes import Lane
    from genqueue.ledger import Consumer, Ended
    from genqueue.scripts import Call
    from genqueue.settings import Settings
    from genqueue.steps import Operation

#: Seconds between two looks while nothing ends.
POLL: Final = 0.25

#: Parts of the idle time after which silent consumers are looked for.
_LOOKS: Final = 4

#: Longest name of a group or consumer, in characters.
MAX_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that ended.

    Attributes:
        state: "completed", "failed", "cancelled" or "expired".
        ended_at: seconds since 1970, by the server's clock.
    """

    job_id: str
    state: str
    tenant: str
    lane: Lane
    ended_at: float


def consumer_of(group: str, name: str, start: ledger.Start, idle: float) -> Consumer:
    """Return a consumer; raises InvalidRequest naming the argument that is wrong."""
    for field, value in (("group", group), ("consumer", name)):
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME:
            raise InvalidRequest(field, value, f"a name of 1 to {MAX_NAME} characters")
        sound(value, field)
    if start not in {"oldest", "newest"}:
        raise InvalidRequest("start", start, "'oldest' or 'newest'")
    if isinstance(idle, bool) or not isinstance(idle, (int, float)) or not 1 <= idle <= 86_400:
        raise InvalidRequest("idle", idle, "seconds, from 1 to 86400")
    return ledger.Consumer(group, name, start, int(idle * 1000))


class Feed:
    """One consumer's way through the finished streams.

    Args:
        deployment: whose finished streams.
        as_consumer: who reads.
        settings: where the server is, and how long it may be away.
    """

    def __init__(self, deployment: Deployment, as_consumer: Consumer, settings: Settings) -> None:
        self._deployment = deployment
        self._keys = deployment.keys
        self._consumer = as_consumer
        self._server = server_name(settings.data_url)
        self._patience = Patience(reconnect=settings.reconnect_timeout)
        self._gathered: deque[Ended] = deque()
        self._given: Ended | None = None
        # At first, and after every cut: what was given to this consumer and never reached it comes again.
        self._own = True
        self._looked_for_silent = 0.0

    def next(self) -> Operation[Finished]:
        """Acknowledge the job returned last, wait for one more and return it.

        Raises:
            ServerUnavailable: the server was away for longer than the patience allows.
        """
        while True:
            found = self._gathered.popleft() if self._gathered else None
            if self._given or found:
                kept = yield from persist(partial(self._hand_over, found), self._patience)
                self._given = found if kept else None
                if found and kept:
                    return _finished(found)
            elif not (yield from persist(self._gather, self._patience)):
                yield Pause(POLL)

    def _hand_over(self, found: Ended | None) -> Operation[bool]:
        """Acknowledge the last one and keep the next; returns whether that is this consumer's still."""
        calls = []
        if self._given is not None:
            calls.append(self._acknowledge(self._given.partition, self._given.id, ""))
        if found is not None:
            calls.append(self._acknowledge(found.partition, "", found.id))
        replies = yield from self._ask(calls)
        return bool(replies[-1])

    def _acknowledge(self, partition: int, done: str, wanted: str) -> Call:
        return ledger.acknowledge(self._keys, partition, self._consumer, done, wanted)

    def _gather(self) -> Operation[bool]:
        yield from self._deployment.enter()
        own, self._own = self._own, True
        now = time.monotonic()
        others = now - self._looked_for_silent >= self._consumer.idle_ms / 1000 / _LOOKS
        calls = [
            ledger.take(self._keys, partition, self._consumer, own=own, others=others)
            for partition in range(self._keys.partitions)
        ]
        replies = yield from self._ask(calls)
        if others:
            self._looked_for_silent = now
        taken = [ledger.parse_take(partition, reply) for partition, reply in enumerate(replies)]
        self._own = any(was_own for was_own, _ in taken)
        self._gathered.extend(sorted((entry for _, entries in taken for entry in entries), key=_moment))
        return bool(self._gathered)

    def _ask(self, calls: Sequence[Call]) -> Operation[list[Any]]:
        replies: list[Any] = yield RunMany(tuple(calls))
        for reply in replies:
            if isinstance(reply, Exception):
                raise ServerUnavailable(self._server, reply) from reply
        return replies


def _moment(entry: Ended) -> int:
    return int(entry.id.partition("-")[0])


def _finished(entry: Ended) -> Finished:
    fields = entry.fields
    return Finished(
        job_id=fields.get("job", ""),
        state=fields.get("state", ""),
        tenant=fields.get("tenant", ""),
        lane=cast("Lane", fields.get("lane", "")),
        ended_at=_moment(entry) / 1000,
    )
