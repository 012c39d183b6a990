"""How much memory of the data server a job takes, queued, running and finished; measured on a server of its own."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import redis

from genqueue import Client, ledger, scripts
from genqueue.keys import Keys
from genqueue.lanes import QUEUES
from genqueue.settings import Settings
from genqueue_lab.servers import RedisServer
from genqueue_worker.attempt import Attempt, Clock, new_run
from genqueue_worker.generation import success
from genqueue_worker.providers.seam import Chunk, Piece
from genqueue_worker.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genqueue.ledger import Entry

MODEL: Final = "gemini-2.5-flash"

#: Tokens of an answer; a running job has half of them.
TOKENS: Final = 1000

#: Prompts by name: their bytes.
PROMPTS: Final = {"small": 60, "10 KB": 10_000}

#: Directives under which all is measured: what compose sets, and the server's own default.
NODES: Final = {"512": 512, "default": 4096}

#: Keys of one kind that are asked for their size.
_SAMPLE: Final = 200

#: Jobs that are claimed, written and settled in one round trip.
_BATCH: Final = 50

_LEASES: Final = ledger.Leases(3_600_000, 3_600_000, 3_600_000)


@dataclass(frozen=True, slots=True)
class Size:
    """What jobs in one state take.

    Attributes:
        state: "queued", "running", "finished" or "expired" (finished, its stream gone).
        prompt: name in PROMPTS.
        nodes: name in NODES.
        jobs: how many were measured.
        used: bytes of the server's memory per job, by the difference of used_memory; the broker's message among them.
        keys: bytes per job of each kind of key, as MEMORY USAGE says.
    """

    state: str
    prompt: str
    nodes: str
    jobs: int
    used: float
    keys: dict[str, float]


def measure(jobs: int, streams: int) -> Iterator[Size]:
    """Yield all sizes: of `jobs` jobs that wait, and of `streams` jobs with an answer, whose streams are long."""
    for nodes, size in NODES.items():
        for prompt in PROMPTS:
            with Bench(size) as bench:
                yield bench.size("queued", prompt, nodes, bench.submit(jobs, prompt))
            with Bench(size) as bench:
                yield bench.size("running", prompt, nodes, bench.run(bench.submit(streams, prompt), TOKENS // 2))
            with Bench(size) as bench:
                flights = bench.run(bench.submit(streams, prompt), TOKENS)
                yield bench.size("finished", prompt, nodes, flights)
                bench.expire_streams()
                yield bench.size("expired", prompt, nodes, flights)


class Bench:
    """One empty server, and jobs on it."""

    def __init__(self, node_bytes: int) -> None:
        config = {"appendonly": "no", "stream-node-max-bytes": str(node_bytes)}
        self._server = RedisServer(config=config)
        self._chance = random.Random(1)  # noqa: S311 - texts that are the same each time
        self._keys = Keys()

    def __enter__(self) -> Self:
        url = self._server.start().url()
        self._redis = redis.Redis.from_url(url)
        # The defaults, whatever the environment says: the broker above all is this server, never somebody's own.
        self._client = Client(Settings.model_construct(data_url=url))
        # Whatever a server and a deployment have once: scripts, partitions, the broker's bindings.
        self._client.submit("first", model=MODEL, share="none").cancel()
        for script in scripts.SCRIPTS:
            self._redis.script_load(script.source)
        self._empty = self._used()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._redis.close()
        self._server.stop()

    def _used(self) -> int:
        while True:
            found = self._redis.info("memory")
            if not found["lazyfree_pending_objects"]:  # large keys are freed by a thread of the server's
                return int(found["used_memory"])

    def submit(self, jobs: int, prompt: str) -> list[str]:
        """Queue jobs that ask different questions; returns their flights."""
        items = [{"contents": self._text(PROMPTS[prompt])} for _ in range(jobs)]
        made = self._client.submit_many(items, model=MODEL, cache="use")
        return [job.stream_key.rpartition(":")[2] for job in made if not isinstance(job, Exception)]

    def _text(self, size: int) -> str:
        words = [secrets.token_hex(self._chance.randint(1, 4)) for _ in range(min(64, size // 6))]
        text = " ".join(self._chance.choices(words, k=size // 5))
        return f"{secrets.token_hex(4)} {text}"[:size]

    def run(self, flights: Sequence[str], tokens: int) -> list[str]:
        """Claim flights and write an answer of some tokens, one a delta; an answer of TOKENS is settled too."""
        self._redis.delete(*QUEUES)  # the messages have been popped
        for start in range(0, len(flights), _BATCH):
            asyncio.run(self._run(flights[start : start + _BATCH], tokens))
        return list(flights)

    async def _run(self, flights: Sequence[str], tokens: int) -> None:
        stamps = self._all(("HGET", self._keys.flight(flight), "stamp") for flight in flights)
        attempts = []
        for flight, stamp in zip(flights, stamps, strict=True):
            wish = ledger.Claim(flight, secrets.token_hex(12), int(stamp), self._keys.inbox("sizing"), _LEASES)
            (reply,) = scripts.run_many(self._redis, [ledger.claim(self._keys, wish)])
            facts = ledger.parse_claim(reply)
            assert isinstance(facts, ledger.Claimed)  # noqa: S101 - nobody else is here
            task: Any = asyncio.current_task()
            attempts.append(Attempt(flight, wish.token, facts, facts.lane, task))
        written = [self._write(attempt, tokens) for attempt in attempts]
        scripts.run_many(self._redis, [call for calls in written for call in calls])

    def _write(self, attempt: Attempt, tokens: int) -> list[scripts.Call]:
        transcript = Transcript(MODEL)
        entries: list[Entry] = [{"type": "started", "route": "gemini", "model": MODEL, "run": new_run()}]
        for _ in range(tokens):
            word = secrets.token_hex(self._chance.randint(1, 2))
            entries += transcript.take(Chunk(entries=(Piece("delta", text=f" {word}"),)))
        calls = [ledger.append(self._keys, attempt.flight, attempt.token, 1, entries)]
        if tokens == TOKENS:
            usage = {"promptTokenCount": 20, "candidatesTokenCount": tokens, "totalTokenCount": tokens + 20}
            transcript.take(Chunk(finish_reason="STOP", usage=usage))
            ended = success(attempt, transcript, Clock(attempt))
            settlement = ledger.Settlement(
                attempt.flight,
                attempt.token,
                "succeeded",
                len(entries) + 1,
                result=ended.result,
                replay=ended.replay,
                detail=ended.completed,
            )
            calls.append(ledger.settle(self._keys, settlement))
        return calls

    def expire_streams(self) -> None:
        """Let the streams expire, as they do `stream_ttl` after their end."""
        streams = list(self._redis.scan_iter(match="*:events:*", count=1000))
        self._all(("PEXPIRE", key, 1) for key in streams)
        while self._redis.exists(*streams):  # asking is what takes an expired key away
            pass

    def size(self, state: str, prompt: str, nodes: str, flights: Sequence[str]) -> Size:
        """Return what the jobs take now."""
        jobs = len(flights)
        used = (self._used() - self._empty) / jobs
        kinds: dict[str, list[bytes]] = {}
        for key in self._redis.scan_iter(count=1000):
            kinds.setdefault(_kind(key.decode()), []).append(key)
        return Size(state, prompt, nodes, jobs, used, {kind: self._of(keys, jobs) for kind, keys in kinds.items()})

    def _of(self, keys: Sequence[bytes], jobs: int) -> float:
        sample = self._chance.sample(keys, min(_SAMPLE, len(keys)))
        sizes = self._all(("MEMORY", "USAGE", key, "SAMPLES", 0) for key in sample)
        return sum(size or 0 for size in sizes) / len(sample) * len(keys) / jobs

    def _all(self, commands: Iterator[tuple[Any, ...]]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()


def _kind(key: str) -> str:
    """Return a key's kind as `genqueue.keys` has it, or "broker"."""
    if not key.startswith("gq:"):
        return "broker"
    return key.split(":")[2] if "{" in key else key.split(":")[1]


def table(sizes: Sequence[Size]) -> list[str]:
    """Return the rows of a Markdown table: bytes per job, by state and prompt, with its largest keys."""
    rows = [
        "| a job that is | prompt | bytes, `stream-node-max-bytes 512` | as the server comes (4096) | of which (512) |",
        "|---|---|---|---|---|",
    ]
    by_place = {(size.state, size.prompt, size.nodes): size for size in sizes}
    for state, prompt in dict.fromkeys((size.state, size.prompt) for size in sizes):
        here, default = (by_place[state, prompt, nodes] for nodes in NODES)
        parts = ", ".join(f"{kind} {bytes_:,.0f}" for kind, bytes_ in Counter(here.keys).most_common(5) if bytes_ >= 50)
        rows.append(f"| {_STATES[state]} | {prompt} | {here.used:,.0f} | {default.used:,.0f} | {parts} |")
    return rows


_STATES: Final = {
    "queued": "queued",
    "running": f"running, {TOKENS // 2} tokens written",
    "finished": f"finished, {TOKENS:,} tokens",
    "expired": "finished, its stream expired",
}
