# ruff: noqa: E501 - the table of keys is wide
"""Every key genqueue uses, spelled in one place.

All keys of a flight carry the same hash tag `{p}`, p being its partition, so that each script touches one slot
and the same code runs on a cluster. Ids of jobs and flights start with their partition: "17-3f2a...".

| key                         | type   | holds                                             | written by                              | read by           | time to live                                              |
|-----------------------------|--------|---------------------------------------------------|-----------------------------------------|-------------------|-----------------------------------------------------------|
| gq:{p}:flight:<id>          | hash   | request, state, token, counters, result           | every script                            | worker, SDK       | deadline, then `result_ttl`, or `dead_ttl` when it failed |
| gq:{p}:events:<flight>      | stream | the events a reader tails                         | every script                            | any reader        | deadline, then `stream_ttl`                               |
| gq:{p}:job:<id>             | hash   | flight, lane, tenant, leave mark, its end         | submit, ends, collect, delivered, purge | SDK, worker       | as long as anything is found by it                        |
| gq:{p}:members:<flight>     | zset   | jobs aboard, by deadline                          | submit, leave, sweep, purge             | scripts           | as the flight and its stream                              |
| gq:{p}:ledger               | zset   | unfinished flights, by next look                  | every script but append                 | sweep             | last entry + `result_ttl`                                 |
| gq:{p}:sent:<queue>         | zset   | queued flights, by stamp                          | submit, claim, ends                     | sweep             | last entry + `result_ttl`                                 |
| gq:{p}:flying:<fingerprint> | string | the live flight of a question                     | submit, ends                            | submit            | as the flight                                             |
| gq:{p}:cache:<fingerprint>  | hash   | a finished answer, and who paid for it            | settle, purge                           | submit            | `cache_ttl`                                               |
| gq:{p}:cached               | zset   | fingerprints of these, by when they expire        | settle, sweep, purge                    | sweep             | last entry + `cache_ttl`                                  |
| gq:{p}:finished             | stream | jobs that ended, about the last 1,000             | ends, take                              | take, acknowledge | last entry + 7 days                                       |
| gq:{p}:outbox               | zset   | jobs whose end is to be told, by next try         | ends, collect, delivered                | worker            | last entry + 25 h                                         |
| gq:{p}:dead                 | zset   | flights that may be tried again, by when they go  | ends, drop                              | SDK               | last entry + `dead_ttl`                                   |
| gq:{p}:swept, gq:{p}:grace  | string | when the partition was last swept                 | sweep                                   | sweep             | an hour, one lease                                        |
| gq:{p}:pressure             | string | how full the memory is, and of what level that is | submit, sweep                           | submit, settle    | a second                                                  |
| gq:idem:{<hash>}            | string | the job of an idempotency key                     | reserve                                 | reserve           | `idempotency_ttl`                                         |
| gq:marks                    | hash   | highest stamp popped, per queue                   | mark                                    | worker            | 7 days                                                    |
| gq:served:<route>:<lane>    | string | that a worker serves the lane, with this provider | worker                                  | worker            | a day                                                     |
| gq:meta                     | hash   | partitions and schema version                     | the first process                       | every process     | none                                                      |

`ends` are the scripts in which a job ends: settle, leave, revoke, sweep, purge, and submit when the cache answers.

Channels: gq:{p}:bell:<flight> (rung with every event), gq:inbox:<worker> (flights taken from their holder).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from genqueue.errors import InvalidRequest

#: Version of the key layout and scripts; recorded in `gq:meta`.
SCHEMA: Final = 1

_ID = re.compile(r"(0|[1-9][0-9]{0,4})-[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Spells the keys of one deployment.

    Args:
        prefix: first part of every key.
        partitions: number of partitions; fixed for the life of a deployment.
    """

    prefix: str = "gq"
    partitions: int = 64

    def new_id(self, partition: int | None = None) -> str:
        """Return a fresh job or flight id in a partition (a random one when None)."""
        chosen = secrets.randbelow(self.partitions) if partition is None else partition
        return f"{chosen}-{secrets.token_hex(10)}"

    def partition_of_id(self, identifier: str) -> int:
        """Return the partition an id names; raises InvalidRequest when it is not one of ours."""
        found = _ID.fullmatch(identifier) if isinstance(identifier, str) else None
        if found is None or int(found[1]) >= self.partitions:
            raise InvalidRequest("job_id", identifier, "an id as submit() returns it, like 17-0123456789abcdef0123")
        return int(found[1])

    def partition_of_fingerprint(self, fingerprint: str) -> int:
        """Return the partition of a fingerprint (hex digits)."""
        return int(fingerprint[:8], 16) % self.partitions

    def slot(self, partition: int) -> str:
        """Return the prefix of every key in a partition."""
        return f"{self.prefix}:{{{partition}}}:"

    def slot_of_id(self, identifier: str) -> str:
        """Return the prefix of the partition an id belongs to."""
        return self.slot(self.partition_of_id(identifier))

    def flight(self, flight: str) -> str:
        """Return the key of a flight's hash."""
        return f"{self.slot_of_id(flight)}flight:{flight}"

    def events(self, flight: str) -> str:
        """Return the key of a flight's event stream."""
        return f"{self.slot_of_id(flight)}events:{flight}"

    def bell(self, flight: str) -> str:
        """Return the channel that is rung with each of a flight's events."""
        return f"{self.slot_of_id(flight)}bell:{flight}"

    def job(self, job: str) -> str:
        """Return the key of a job's hash."""
        return f"{self.slot_of_id(job)}job:{job}"

    def idempotency(self, tenant: str, name: str) -> str:
        """Return the key of a tenant's idempotency key, in a slot of its own."""
        digest = hashlib.sha256(f"{tenant}\0{name}".encode()).hexdigest()
        return f"{self.prefix}:idem:{{{digest[:32]}}}"

    def outbox(self, partition: int) -> str:
        """Return the key of a partition's completions that wait to be told."""
        return f"{self.slot(partition)}outbox"

    def dead(self, partition: int) -> str:
        """Return the key of a partition's dead letters, by how long they are kept."""
        return f"{self.slot(partition)}dead"

    def sent(self, partition: int, queue: str) -> str:
        """Return the key of a partition's flights that are queued there, by stamp."""
        return f"{self.slot(partition)}sent:{queue}"

    def members(self, flight: str) -> str:
        """Return the key of the jobs aboard of a flight."""
        return f"{self.slot_of_id(flight)}members:{flight}"

    def marks(self) -> str:
        """Return the key of the highest stamps popped."""
        return f"{self.prefix}:marks"

    def served(self, route: str, lane: str) -> str:
        """Return the key that tells when a lane was last served with a provider."""
        return f"{self.prefix}:served:{route}:{lane}"

    def inbox(self, worker: str) -> str:
        """Return the channel on which a worker hears that a flight was taken from it."""
        return f"{self.prefix}:inbox:{worker}"

    def meta(self) -> str:
        """Return the key of the deployment's constants."""
        return f"{self.prefix}:meta"
