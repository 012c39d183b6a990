"""Both ends of the SDK for its tests: the two clients under one set of names, and a worker made of ledger calls."""

from __future__ import annotations

import asyncio
import secrets
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from genqueue import AsyncClient, AsyncJob, Client, ledger, scripts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from genqueue import Event, Job, Result
    from genqueue.dead import DeadLetter
    from genqueue.finished import Finished
    from genqueue.keys import Keys
    from genqueue.purge import Purged
    from genqueue.result import Status

T = TypeVar("T")

LEASES = ledger.Leases(60_000, 60_000, 60_000)
ANSWER = b'{"v":1,"text":"%s","finish_reason":"STOP","attempts":1}'


class LoopThread:
    """An event loop in a thread of its own, on which any thread may run coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class LoopedJob:
    """A job of the asyncio client with the methods of the blocking one."""

    def __init__(self, runner: LoopThread, job: AsyncJob) -> None:
        self.id = job.id
        self._runner = runner
        self._job = job

    @property
    def stream_key(self) -> str:
        """Key of the job's stream."""
        return self._runner.run(self._job.stream_key())

    @property
    def leave_mark(self) -> str:
        """The job's leave mark."""
        return self._runner.run(self._job.leave_mark())

    def tail(self, after: Event | str | None = None, **options: Any) -> Iterator[Event]:
        """Yield the job's events."""
        events = self._job.tail(after, **options)

        async def following() -> Event | None:
            return await anext(events, None)

        try:
            while (event := self._runner.run(following())) is not None:
                yield event
        finally:
            self._runner.run(events.aclose())  # type: ignore[arg-type]

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the answer."""
        return self._runner.run(self._job.result(timeout))

    def text(self, timeout: float | None = None) -> str:
        """Wait for the answer's text."""
        return self._runner.run(self._job.text(timeout))

    def status(self) -> Status:
        """Return where the job is."""
        return self._runner.run(self._job.status())

    def cancel(self) -> bool:
        """End the job."""
        return self._runner.run(self._job.cancel())


class LoopedClient:
    """The asyncio client on a loop of its own, with the methods of the blocking one."""

    def __init__(self, **settings: Any) -> None:
        self._runner = LoopThread()
        self._client = AsyncClient(**settings)

    def submit(self, contents: object, *, model: str, **options: Any) -> LoopedJob:
        """Queue a request."""
        made: Coroutine[Any, Any, AsyncJob] = self._client.submit(contents, model=model, **options)
        return LoopedJob(self._runner, self._runner.run(made))

    def submit_many(self, items: Any, **defaults: Any) -> list[Any]:
        """Queue many requests."""
        made = self._runner.run(self._client.submit_many(items, **defaults))
        return [LoopedJob(self._runner, one) if isinstance(one, AsyncJob) else one for one in made]

    def new_job_id(self, contents: object, *, model: str, **options: Any) -> str:
        """Return an id for a request."""
        return self._client.new_job_id(contents, model=model, **options)

    def job(self, job_id: str) -> LoopedJob:
        """Return a handle for a job."""
        return LoopedJob(self._runner, self._client.job(job_id))

    def finished(self, group: str, consumer: str, **options: Any) -> Iterator[Finished]:
        """Yield jobs that ended."""
        following = self._client.finished(group, consumer, **options)

        async def one() -> Finished:
            return await anext(following)

        try:
            while True:
                yield self._runner.run(one())
        finally:
            self._runner.run(following.aclose())  # type: ignore[attr-defined]

    def dead(self, limit: int = 100, tenant: str | None = None) -> list[DeadLetter]:
        """Return dead letters."""
        return self._runner.run(self._client.dead(limit, tenant))

    def dead_letter(self, job_id: str, **options: Any) -> DeadLetter:
        """Return one of them."""
        return self._runner.run(self._client.dead_letter(job_id, **options))

    def replay(self, job_id: str, /, **options: Any) -> LoopedJob:
        """Queue its request anew."""
        made: Coroutine[Any, Any, AsyncJob] = self._client.replay(job_id, **options)
        return LoopedJob(self._runner, self._runner.run(made))

    def drop(self, job_id: str) -> bool:
        """Drop it."""
        return self._runner.run(self._client.drop(job_id))

    def purge(self, job_id: str) -> bool:
        """Erase a job."""
        return self._runner.run(self._client.purge(job_id))

    def purge_tenant(self, tenant: str) -> Purged:
        """Erase a tenant's jobs."""
        return self._runner.run(self._client.purge_tenant(tenant))

    def close(self) -> None:
        """Close the client and its loop."""
        self._runner.run(self._client.aclose())
        self._runner.close()


#: The two clients; whatever is asked of one is asked of the other.
CLIENTS = {"blocking": Client, "asyncio": LoopedClient}


class Shift:
    """One attempt at a flight, said step by step."""

    def __init__(self, connection: redis.Redis, keys: Keys, flight: str, *, alone: bool = False) -> None:
        self.token = secrets.token_hex(8)
        self._redis = connection
        self._keys = keys
        self._flight = flight
        self._written = 0
        stamp = int(connection.hget(keys.flight(flight), "stamp"))  # type: ignore[arg-type]
        wish = ledger.Claim(flight, self.token, stamp, keys.inbox("test"), LEASES, alone)
        assert isinstance(ledger.parse_claim(self._run(ledger.claim(keys, wish))), ledger.Claimed)

    def say(self, *texts: str) -> None:
        """Write one delta for each text."""
        entries = [{"type": "delta", "text": text} for text in texts]
        call = ledger.append(self._keys, self._flight, self.token, self._written + 1, entries)
        self._written += len(texts)
        assert ledger.parse_append(self._run(call)) == ledger.Appended("ok", self._written)

    def succeed(self, text: str = "Yes.") -> None:
        """End with an answer that may be given again."""
        replay = [{"type": "delta", "text": text}]
        self._settle(
            "succeeded",
            result=ANSWER % text.encode(),
            replay=replay,
            detail={"finish_reason": "STOP", "source": "live"},
        )

    def fail(self, **detail: str) -> None:
        """End without one."""
        self._settle("failed", detail=detail)

    def retry(self) -> None:
        """Wait for another try."""
        self._settle("retry", delay_ms=60_000, detail={"code": "UNAVAILABLE"})

    def _settle(self, outcome: Any, **fields: Any) -> None:
        settlement = ledger.Settlement(self._flight, self.token, outcome, self._written + 1, **fields)
        status = ledger.parse_settle(self._run(ledger.settle(self._keys, settlement))).status
        assert status == ("waiting" if outcome == "retry" else outcome)

    def _run(self, call: scripts.Call) -> Any:
        return scripts.run(self._redis, call)


class HandWorker:
    """Does a worker's calls on the ledger when a test says so, and sweeps.

    Attributes:
        redis: a connection to the data server.
        keys: the deployment's keys.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self.redis = redis.Redis.from_url(url)
        self.keys = keys

    def take(self, job: Job | LoopedJob, *, alone: bool = False) -> Shift:
        """Claim a job's flight, maybe as a worker that runs nothing beside it."""
        return Shift(self.redis, self.keys, self.flight(job), alone=alone)

    def flight(self, job: Job | LoopedJob) -> str:
        """Return the flight a job is aboard of."""
        return job.stream_key.rpartition(":")[2]

    def sweep(self, job: Job | LoopedJob, now_ms: int) -> None:
        """Look after a job's partition as if it were `now_ms`."""
        look = ledger.Sweep(100, 5000, 60_000, 60_000, 0)
        scripts.run(self.redis, ledger.sweep(self.keys, self.keys.partition_of_id(job.id), look, now_ms))

    def server_ms(self) -> int:
        """Return the server's time in ms."""
        seconds, microseconds = self.redis.time()
        return int(seconds * 1000 + microseconds // 1000)
