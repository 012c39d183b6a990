# ruff: noqa: E501 - the table of keys is wide
"""Every key genqueue uses, spelled in one place.

All keys of a flight carry the same hash tag `{p}`, p being its partition, so that each script touches one slot
and the same code runs on a cluster. Ids of jobs and flights start with their partition: "17-3f2a...".

| key                           | type   | holds                                     | written by            | read by           | time to live                    |
|-------------------------------|--------|-------------------------------------------|-----------------------|-------------------|---------------------------------|
| gq:{p}:flight:<id>            | hash   | request, state, token, counters, result   | every script          | worker, SDK       | deadline, then `result_ttl`     |
| gq:{p}:events:<flight>        | stream | the events a reader tails                 | every script          | any reader        | deadline, then `stream_ttl`     |
| gq:{p}:job:<id>               | hash   | flight, lane, tenant, deadline, leave mark| submit, leave         | SDK               | deadline + `result_ttl`         |
| gq:{p}:members:<flight>       | zset   | jobs aboard, by deadline                  | submit, leave, sweep  | scripts           | as the flight                   |
| gq:{p}:ledger                 | zset   | unfinished flights, by next look          | every script          | sweep             | last entry + `result_ttl`       |
| gq:{p}:sent:<queue>           | zset   | queued flights, by stamp                  | submit, claim, sweep  | sweep             | last entry + `result_ttl`       |
| gq:{p}:flying:<fingerprint>   | string | the live flight of a question             | submit, settle        | submit            | as the flight                   |
| gq:{p}:cache:<fingerprint>    | hash   | a finished answer                         | settle                | submit            | `cache_ttl`                     |
| gq:{p}:swept, gq:{p}:grace    | string | when the partition was last swept         | sweep                 | sweep             | an hour, one lease              |
| gq:marks                      | hash   | highest stamp popped, per queue           | mark                  | worker            | 7 days                          |
| gq:meta                       | hash   | partitions and schema version             | the first process     | every process     | none                            |

Channels: gq:{p}:bell:<flight> (rung with every event), gq:inbox:<worker> (flights taken from their holder).
"""

from __future__ import annotations

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

    def marks(self) -> str:
        """Return the key of the highest stamps popped."""
        return f"{self.prefix}:marks"

    def inbox(self, worker: str) -> str:
        """Return the channel on which a worker hears that a flight was taken from it."""
        return f"{self.prefix}:inbox:{worker}"

    def meta(self) -> str:
        """Return the key of the deployment's constants."""
        return f"{self.prefix}:meta"
