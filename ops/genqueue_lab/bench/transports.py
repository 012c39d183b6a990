"""What a stream costs a worker's transport: our own HTTP/2 beside httpcore's, on the same pool and the same emulator.

Both run in this process, in turn within every round; what is counted is its processor time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import uvloop

from genqueue_lab.bench.cores import Cores
from genqueue_lab.bench.report import Promise, Report, interval
from genqueue_lab.bench.verdict import ratio_of
from genqueue_lab.emulator import EmulatorProcess, Options
from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import ConnectionPool, PoolOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genqueue_lab.bench.plan import Plan
    from genqueue_worker.providers.connection_options import Transport

#: What ours may cost of what httpcore's does.
LIMIT: Final = 0.8

#: Rounds, and in a quick run.
ROUNDS, QUICK_ROUNDS = 12, 6

_PATH: Final = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
_BODY: Final = b'{"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}'
_HEADERS: Final = {"x-goog-api-key": "bench", "content-type": "application/json", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Load:
    """So many streams at once, and their pace."""

    name: str
    streams: int
    pace: Mapping[str, float]


#: The first one is held against the limit.
LOADS: Final = (
    Load("100 streams, 20 chunks, 50 ms apart", 100, {"ttft": 0.1, "tpot": 0.05, "tokens": 20}),
    Load("50 streams, 20 chunks, unpaced", 50, {"ttft": 0, "tpot": 0, "tokens": 20}),
    Load("200 streams, 100 chunks, 15 ms apart", 200, {"ttft": 0.1, "tpot": 0.015, "tokens": 100}),
)

#: Milliseconds of processor time a stream took: ours, httpcore's.
Pair = tuple[float, float]


def run(plan: Plan) -> Report:
    """Measure; the control has httpcore on both sides."""
    cores, loads = Cores(), LOADS[:2] if plan.quick or plan.control else LOADS
    with cores.at_load():
        emulator = EmulatorProcess(Options()).start()
    try:
        with cores.at_work():
            found = uvloop.run(_measured(emulator, loads, plan))
    finally:
        emulator.stop()
    figures = {name: _row(pairs) for name, pairs in found.items()}
    ratios = {f"ours to httpcore's, {name}": interval(ratio_of(pairs)) for name, pairs in found.items()}
    promise = Promise("CPU of a stream, ours to httpcore's", ratio_of(found[loads[0].name]), LIMIT, "times")
    return Report("transports", [promise], figures, ratios, control=plan.control)


async def _measured(emulator: EmulatorProcess, loads: Sequence[Load], plan: Plan) -> dict[str, list[Pair]]:
    ours: Transport = "httpcore" if plan.control else "h2"
    found: dict[str, list[Pair]] = {}
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(emulator, each)) for each in (ours, "httpcore")]
        for client in clients:
            await _cost(client, emulator.url, 2)  # what is done once is not counted
        for load in loads:
            await asyncio.to_thread(emulator.set, **load.pace)
            plan.say(load.name)
            found[load.name] = [
                await _round(clients, emulator.url, load.streams, swapped=number % 2 == 1)
                for number in range(QUICK_ROUNDS if plan.quick or plan.control else ROUNDS)
            ]
    return found


async def _round(clients: Sequence[httpx.AsyncClient], url: str, streams: int, *, swapped: bool) -> Pair:
    order = (1, 0) if swapped else (0, 1)
    costs = {side: await _cost(clients[side], url, streams) for side in order}
    return costs[0], costs[1]


async def _cost(client: httpx.AsyncClient, url: str, streams: int) -> float:
    """Return the milliseconds of processor time that each of so many streams at once took."""
    before = time.process_time()
    await asyncio.gather(*(_answer(client, url) for _ in range(streams)))
    return (time.process_time() - before) / streams * 1000


async def _answer(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("POST", url + _PATH, content=_BODY, headers=_HEADERS) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_bytes():
            pass


def _client(emulator: EmulatorProcess, transport: Transport) -> httpx.AsyncClient:
    connection = ConnectionOptions(ca_pem=emulator.ca_file.read_bytes(), transport=transport)
    pool = ConnectionPool(PoolOptions(connection))
    return httpx.AsyncClient(transport=pool, timeout=None, trust_env=False)  # noqa: S113 - the connections keep time


def _row(pairs: Sequence[Pair]) -> dict[str, Any]:
    ours, theirs = zip(*pairs, strict=True)
    return {"ours, CPU ms": sum(ours) / len(ours), "httpcore's, CPU ms": sum(theirs) / len(theirs)}
