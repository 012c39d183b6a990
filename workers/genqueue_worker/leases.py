"""The attempts this process holds: their leases, renewed together, and the calls that take them away."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from genqueue import ledger
from genqueue.ledger import Leases as LeaseLengths
from genqueue_worker.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue_worker.attempt import Attempt
    from genqueue_worker.courier import Courier

log = logging.getLogger("genqueue.leases")

#: Seconds between two renewals of every lease, and while they fail: when the server is back, they are the first there.
RENEWAL = 1.0
RETRY = 0.2

#: Seconds one wait for a call-off lasts.
LISTEN = 5.0


class Leases:
    """Holds attempts and keeps their leases alive on the asyncio loop, never on Celery's hub."""

    def __init__(self, client: redis.asyncio.Redis, courier: Courier, keys: Keys, lease_ms: Mapping[Lane, int]) -> None:
        self._client = client
        self._courier = courier
        self._keys = keys
        self._lease_ms = lease_ms
        self.lengths = LeaseLengths(lease_ms["high"], lease_ms["normal"], lease_ms["low"])
        self._held: dict[str, Attempt] = {}
        self._unrenewed = Outage(log, "leases.not_renewed", "leases.renewed", "check the data server")
        self._deaf = Outage(log, "leases.deaf", "leases.heard", "renewals find what is called off")

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def hold(self, attempt: Attempt) -> Iterator[None]:
        """Renew an attempt's lease and listen for its call-off while the block runs."""
        self._held[attempt.token] = attempt
        try:
            yield
        finally:
            del self._held[attempt.token]

    async def renew(self) -> None:
        """Renew every lease each second until cancelled."""
        renewed = True
        while True:
            await asyncio.sleep(RENEWAL if renewed else RETRY)
            renewed = await self._renew([attempt for attempt in self._held.values() if not attempt.settling])

    async def _renew(self, held: list[Attempt]) -> bool:
        """Renew leases; returns whether every one was."""
        renewed = True
        calls = [
            self._courier.ask(ledger.renew(self._keys, attempt.flight, attempt.token, self._lease_ms[attempt.lane]))
            for attempt in held
        ]
        for attempt, reply in zip(held, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(reply, BaseException):
                self._unrenewed.failed(reply)
                renewed = False
                continue
            self._unrenewed.worked()
            lane = ledger.parse_renew(reply)
            if lane is None:
                attempt.refuse()
            else:
                attempt.lane = lane
        return renewed

    async def listen(self, channel: str) -> None:
        """Stop attempts that are called off on the worker's channel, until cancelled.

        Only for speed: a call-off nobody hears is found by the next renewal or append.
        """
        while True:
            try:
                await self._hear(channel)
            except (RedisError, OSError) as error:
                self._deaf.failed(error)
            await asyncio.sleep(RENEWAL)

    async def _hear(self, channel: str) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as inbox:
            await inbox.subscribe(channel)
            self._deaf.worked()
            while True:
                message = await inbox.get_message(timeout=LISTEN)
                if message is not None:
                    self._call_off(message["data"])

    def _call_off(self, message: bytes) -> None:
        _flight, _, token = message.decode(errors="replace").partition(" ")
        attempt = self._held.get(token)
        if attempt is not None:
            attempt.refuse()
