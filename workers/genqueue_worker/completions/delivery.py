"""Looking for ends that are to be told, and telling each until it is heard or a day has passed."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from genqueue import ledger
from genqueue.ledger import Taking
from genqueue_worker.completions.notice import MAX_STORED
from genqueue_worker.completions.receivers import Receivers, receiver_of
from genqueue_worker.completions.webhooks import TIMEOUT, NotSent
from genqueue_worker.outage import Outage

if TYPE_CHECKING:
    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.ledger import Completion, Delivery
    from genqueue_worker.completions.tellers import Tellers
    from genqueue_worker.courier import Courier

log = logging.getLogger("genqueue.reading.completions")

#: Seconds between two looks, and while there is more than could be taken.
INTERVAL: Final = 1.0
BUSY: Final = 0.05

#: Deliveries at once.
ROOM: Final = 64

#: How long nobody else delivers what this worker took, in ms: a delivery, and its report.
LEASE_MS: Final = int(TIMEOUT * 2000)

#: Seconds before the second try, doubled for each further one; the longest; and after which there is none.
FIRST_DELAY: Final = 5.0
MAX_DELAY: Final = 7200.0
GIVE_UP: Final = 86_400.0

#: A moment later than any, in ms.
_ALWAYS_MS: Final = 2**53

#: Status of a receiver that wants no more.
GONE: Final = 410

#: Seconds until a completion is looked at again that nobody here can sign, or whose receiver is crowded.
UNSIGNED_DELAY: Final = 60.0
CROWDED_DELAY: Final = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a delivery came to.

    Attributes:
        why: for the log; "" when it was delivered.
        delay: seconds until the next try, if there is to be one.
    """

    delivery: Delivery
    why: str = ""
    delay: float = 0.0


def back_off(tries: int, chance: random.Random) -> float:
    """Return seconds until the next try, with jitter; `tries` failed before the last one."""
    return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(tries, 60) * chance.uniform(0.8, 1.2))


def judge(completion: Completion, why: str, now: float, chance: random.Random) -> Verdict:
    """Return what becomes of a completion whose delivery failed; `now` in seconds since 1970."""
    delay = back_off(completion.tries, chance)
    if now + delay >= completion.done_at_ms / 1000 + GIVE_UP:
        return Verdict("dropped", why)
    return Verdict("failed", why, delay)


class Deliverer:
    """Delivers what is due in every partition; any number of workers may do so at once."""

    def __init__(self, data: redis.asyncio.Redis, courier: Courier, keys: Keys, tellers: Tellers) -> None:
        self._data = data
        self._courier = courier
        self._keys = keys
        self._tellers = tellers
        self._receivers = Receivers()
        self._busy = 0
        #: Seconds by which the server's clock is ahead of this machine's monotonic one; 0 before it was read.
        self._ahead = 0.0
        self._chance = random.SystemRandom()
        self._unsigned_said = False
        self._away = Outage(log, "completions.away", "completions.back", "nobody is told meanwhile: check the server")

    async def run(self) -> None:
        """Look and deliver until cancelled."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                more = False
                try:
                    more = await self.look(deliveries)
                    self._away.worked()
                except (RedisError, OSError) as error:
                    self._away.failed(error)
                await asyncio.sleep(BUSY if more else INTERVAL)

    async def look(self, deliveries: asyncio.TaskGroup) -> bool:
        """Take what is due, as much as there is room for, and begin to deliver it; returns whether there is more."""
        room = ROOM - self._busy
        if room <= 0:
            return True
        due = await self._due(room)
        partitions = [partition for partition, jobs in enumerate(due) if jobs]
        self._chance.shuffle(partitions)  # so that no partition is always last
        taking, calls, left = Taking(secrets.token_hex(8), LEASE_MS, MAX_STORED), [], room
        for partition in partitions:
            jobs = due[partition][:left]
            left -= len(jobs)
            if jobs:
                calls.append(ledger.collect(self._keys, partition, jobs, taking))
        for reply in await asyncio.gather(*map(self._courier.ask, calls)):
            for completion in ledger.parse_collect(taking, reply):
                self._busy += 1
                deliveries.create_task(self._deliver(completion))
        return left == 0

    async def _due(self, limit: int) -> list[list[str]]:
        # Before the server's clock is known everything is looked at; the script takes only what is due.
        now_ms = int(self._now() * 1000) if self._ahead else _ALWAYS_MS
        async with self._data.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("TIME")
            for partition in range(self._keys.partitions):
                pipeline.execute_command(*ledger.due(self._keys, partition, now_ms, limit))
            (seconds, microseconds), *due = await pipeline.execute()
        self._ahead = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
        return [[job.decode() for job in jobs] for jobs in due]

    def _now(self) -> float:
        return time.monotonic() + self._ahead

    async def _deliver(self, completion: Completion) -> None:
        """Deliver one completion and note what became of it; never fails: what is not noted is delivered again."""
        try:
            verdict = await self._verdict(completion)
            self._say(completion, verdict)
            call = ledger.delivered(self._keys, completion, verdict.delivery, int(verdict.delay * 1000))
            await self._courier.ask(call)
        except (RedisError, OSError) as error:
            self._away.failed(error)
        finally:
            self._busy -= 1

    async def _verdict(self, completion: Completion) -> Verdict:
        try:
            whom = json.loads(completion.on_done)
            if "url" in whom and not self._tellers.webhooks.signs:
                return self._unsigned(completion)
            receiver = receiver_of(whom)
            if self._receivers.crowded(receiver):
                return self._later(completion, CROWDED_DELAY * self._chance.uniform(0.5, 1.5), "no answer to others")
            with self._receivers.telling(receiver):
                status = await self._tellers.tell(whom, completion)
        except NotSent as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a delivery: brokers raise errors of every kind
            why = f"{type(error).__name__}: {error}"
        else:
            if 200 <= status < 300:
                return Verdict("delivered")
            why = f"status {status}"
            if status == GONE:
                return Verdict("dropped", why)
        return judge(completion, why, self._now(), self._chance)

    def _unsigned(self, completion: Completion) -> Verdict:
        if not self._unsigned_said:
            self._unsigned_said = True
            log.warning("completions.unsigned; webhooks wait until GENQUEUE_WEBHOOK_SECRETS is set on the workers")
        return self._later(completion, UNSIGNED_DELAY, "no secret to sign with")

    def _later(self, completion: Completion, delay: float, why: str) -> Verdict:
        """Return the verdict on a completion that is not tried now."""
        given_up = self._now() >= completion.done_at_ms / 1000 + GIVE_UP
        return Verdict("dropped", why) if given_up else Verdict("waits", why, delay)

    def _say(self, completion: Completion, verdict: Verdict) -> None:
        job, tries, why = completion.job, completion.tries + 1, verdict.why
        match verdict.delivery:
            case "delivered":
                log.info("completion.delivered job=%s tries=%d", job, tries)
            case "dropped":
                log.error("completion.dropped job=%s tries=%d why=%s; nobody is told of this end", job, tries, why)
            case "failed":
                log.warning("completion.failed job=%s tries=%d why=%s next=%.0fs", job, tries, why, verdict.delay)
