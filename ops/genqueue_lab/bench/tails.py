"""From an append to its readers: what a tail adds to one round trip, few and many of them alive in one process.

A server, and for each number of tails a process of readers, run side by side. Rounds alternate between the processes,
so that whatever else this machine does meets both. The writer sends a PING and then one real append to a random stream,
at a steady, modest rate; both clocks are the machine's monotonic one.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import redis

from genqueue import Client, ledger, scripts
from genqueue.connections import BlockingConnection
from genqueue.jobs import look_up
from genqueue.keys import Keys
from genqueue.settings import Settings
from genqueue_lab.bench.tail_readers import read
from genqueue_lab.bench.verdict import Estimate, Verdict, median_of, together
from genqueue_lab.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Milliseconds that an append may take to its reader, beyond one round trip, by the number of live tails.
LIMITS: Final = {10: 0.5, 1000: 2.0}

#: Appends a second, all streams together (one every two seconds for each of a thousand), and appends in one round.
RATE: Final = 500
SAMPLES: Final = 400

#: Seconds until every event of a round must have been seen.
PATIENCE: Final = 60.0

_LEASES: Final = ledger.Leases(3_600_000, 3_600_000, 3_600_000)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured with so many live tails; times in ms.

    Attributes:
        tails: how many.
        limit: what the added time may be.
        round_trip: median of a PING.
        to_reader: median from before an append is sent until its reader has the event.
        added: median of to_reader less the round's own round trip.
        ratio: to_reader in round trips.
        verdict: whether `added` is within the limit.
    """

    tails: int
    limit: float
    round_trip: float
    to_reader: float
    added: Estimate
    ratio: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured.

    Attributes:
        readers: "bells" or, for the control, "xread".
        rate: appends a second.
        rows: one for each number of tails.
        verdict: on all of them.
    """

    readers: str
    rate: int
    rows: tuple[Row, ...]
    verdict: Verdict

    def text(self) -> str:
        """Return it as lines for people."""
        lines = [f"readers: {self.readers}, {self.rate} appends/s; p50 in ms, added with its 95 % interval"]
        lines += [
            f"{row.tails:>5} tails  round trip {row.round_trip:.3f}  append to reader {row.to_reader:.3f} "
            f"({row.ratio:.1f} round trips)  added {row.added.value:.3f} [{row.added.low:.3f}, {row.added.high:.3f}]"
            f"  limit {row.limit:g}: {row.verdict}"
            for row in self.rows
        ]
        return "\n".join([*lines, f"verdict: {self.verdict}"])


def measure(*, rounds: int, control: bool) -> Report:
    """Measure on a server of its own; the control reads with one blocking XREAD per process."""
    readers = "xread" if control else "bells"
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        crowds = {count: stack.enter_context(Crowd(server.url(), count, readers)) for count in LIMITS}
        measured: dict[int, list[Round]] = {count: [] for count in LIMITS}
        for _ in range(rounds):
            for count, crowd in crowds.items():
                measured[count].append(crowd.round(SAMPLES))
    rows = tuple(_row(count, measured[count]) for count in LIMITS)
    return Report(readers, RATE, rows, together(row.verdict for row in rows))


def _row(count: int, rounds: Sequence[Round]) -> Row:
    added = median_of([one.added for one in rounds])
    round_trip = statistics.median([value for one in rounds for value in one.round_trips])
    to_reader = statistics.median([value for one in rounds for value in one.to_reader])
    verdict = added.against(LIMITS[count])
    return Row(count, LIMITS[count], round_trip, to_reader, added, to_reader / round_trip, verdict)


@dataclass(frozen=True, slots=True)
class Round:
    """One round's times in ms: of each PING, and of each append until its reader had it."""

    round_trips: tuple[float, ...]
    to_reader: tuple[float, ...]

    @property
    def added(self) -> list[float]:
        """What each append took beyond the round's median round trip."""
        usual = statistics.median(self.round_trips)
        return [value - usual for value in self.to_reader]


class Crowd:
    """So many flights that run, a process that reads them all, and the one that writes them; a context manager.

    Args:
        url: the data server.
        count: how many.
        readers: "bells" or "xread".
    """

    def __init__(self, url: str, count: int, readers: str) -> None:
        self._url = url
        self._keys = Keys(f"bench{count}")
        self._settings = Settings(data_url=url, broker_url="memory://", key_prefix=self._keys.prefix)
        self._count = count
        self._readers = readers
        self._redis = redis.Redis.from_url(url)
        self._flights: list[str] = []
        self._written: list[int] = []
        self._pick = random.Random(count)  # noqa: S311 - no secret
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(target=read, args=(self._theirs,), daemon=True)

    def __enter__(self) -> Self:
        jobs = self._submit()
        self._process.start()
        self._pipe.send((self._settings.model_dump(), self._readers, jobs))
        self._expect("ready")
        # Whoever is to be measured has been heard once: the first event of a stream may be read, not rung.
        for index in range(self._count):
            self._append(index)
        self._collect(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._theirs.close()
        self._redis.close()

    def round(self, samples: int) -> Round:
        """Write so many events, one at a time, and return how long each took."""
        round_trips = []
        due = time.monotonic()
        for _ in range(samples):
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            before = time.monotonic_ns()
            self._redis.ping()
            round_trips.append((time.monotonic_ns() - before) / 1e6)
            self._append(self._pick.randrange(self._count))
        return Round(tuple(round_trips), tuple(self._collect(samples)))

    def _submit(self) -> list[str]:
        with Client(self._settings) as client:
            items = [{"contents": str(number), "model": "none", "share": "none"} for number in range(self._count)]
            jobs = [getattr(job, "id") for job in client.submit_many(items)]  # noqa: B009 - an error has none
        connection = BlockingConnection(self._settings)
        self._flights = [connection.run(look_up(self._keys, job)).flight for job in jobs]
        connection.close()
        for flight in self._flights:
            stamp = self._redis.hget(self._keys.flight(flight), "stamp")
            wish = ledger.Claim(flight, "token", int(stamp or 0), self._keys.inbox("bench"), _LEASES)
            scripts.run(self._redis, ledger.claim(self._keys, wish))
        self._written = [0] * self._count
        return jobs

    def _append(self, index: int) -> None:
        self._written[index] += 1
        entry = [{"type": "delta", "text": str(time.monotonic_ns())}]
        scripts.run(self._redis, ledger.append(self._keys, self._flights[index], "token", self._written[index], entry))

    def _collect(self, count: int) -> list[float]:
        self._pipe.send(count)
        return [nanoseconds / 1e6 for nanoseconds in self._expect("times")]

    def _expect(self, word: str) -> list[int]:
        if not self._pipe.poll(PATIENCE):
            raise RuntimeError(f"the readers of {self._count} tails did not say {word!r} within {PATIENCE:g} s")
        said, values = self._pipe.recv()
        if said != word:
            raise RuntimeError(f"the readers of {self._count} tails said {said!r}, expected {word!r}")
        found: list[int] = values
        return found
