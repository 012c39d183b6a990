"""What the emulator saw: connections, streams and requests, counted at the server."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from genqueue_lab.emulator.lateness import Lateness

#: Ended requests and closed connections that are kept in detail; the totals count all of them.
KEPT = 20_000

#: Latest request bodies that are kept, and the size in bytes from which one is not.
KEPT_BODIES = 32
LARGE_BODY = 1024 * 1024

#: Prompts whose calls are counted one by one, and characters kept of each; calls of further prompts count as totals.
KEPT_PROMPTS = 200_000
KEPT_CHARACTERS = 120

#: Percentiles of the delays of chunks that the totals tell.
LAGS = (50, 90, 99)

#: Requests under this path steer the emulator and are not counted.
CONTROL = "/emulator/"


@dataclass(slots=True)
class ConnectionRecord:
    """One TCP connection; `opened` and `closed` are monotonic seconds of the server."""

    id: int
    protocol: str
    opened: float = field(default_factory=time.monotonic)
    closed: float | None = None
    streams: int = 0
    live: int = 0
    peak: int = 0
    refused: int = 0
    control: bool = False

    @property
    def counted(self) -> bool:
        """Whether the connection is a client's and not one that only steers the emulator."""
        return self.streams > 0 or not self.control


@dataclass(slots=True)
class RequestRecord:
    """One request; times are monotonic seconds of the server unless said.

    Attributes:
        prompt: the prompt's fingerprint; None when it is no request to generate.
        fault: the fault that struck it, "quota", or "cut" when its connection was closed by a fault of another's.
        cancelled: the client reset the stream or closed the connection before the end of the answer.
        first: when the first byte of the answer's body went out.
        chunks: pieces of a streamed answer sent so far.
        lag: the worst delay of a chunk against its due time, in seconds.
    """

    id: int
    connection: int
    protocol: str
    method: str
    path: str
    model: str | None = None
    prompt: str | None = None
    fault: str | None = None
    status: int | None = None
    start: float = field(default_factory=time.monotonic)
    start_unix: float = field(default_factory=time.time)
    first: float | None = None
    end: float | None = None
    cancelled: bool = False
    chunks: int = 0
    lag: float = 0.0
    answered: bool = False
    _lateness: Lateness = field(default_factory=Lateness, repr=False)

    def sent(self, lag: float) -> None:
        """Count a piece of a streamed answer, which went out so many seconds after it was due."""
        self.chunks += 1
        self.lag = max(self.lag, lag)
        self._lateness.note(lag)

    def as_json(self) -> dict[str, Any]:
        """Return what is known of the request."""
        names = (known.name for known in fields(self) if not known.name.startswith("_"))
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class PromptCount:
    """What became of the calls of one prompt; a call without an end is still live.

    Attributes:
        prompt: how it begins.
        calls: requests to generate that were understood, whatever became of them.
        completed: whole answers.
        cancelled: the client left before the end.
        faulted: a fault or a quota struck, and the client did not leave before.
    """

    prompt: str
    calls: int = 0
    completed: int = 0
    cancelled: int = 0
    faulted: int = 0


class Stats:
    """Counts connections and requests, and lets a reader wait until a count is reached."""

    def __init__(self) -> None:
        self._connection_ids = itertools.count(1)
        self._request_ids = itertools.count(1)
        self._open: dict[int, ConnectionRecord] = {}
        self._live: dict[int, RequestRecord] = {}
        self._changed = asyncio.Event()
        self._lateness = Lateness()
        self._clear()

    def _clear(self) -> None:
        self._closed: deque[ConnectionRecord] = deque(maxlen=KEPT)
        self._ended: deque[RequestRecord] = deque(maxlen=KEPT)
        self._bodies: deque[bytes] = deque(maxlen=KEPT_BODIES)
        self._paths: Counter[str] = Counter()
        self._prompts: dict[str, PromptCount] = {}
        self._faults: Counter[str] = Counter()
        self._calls = PromptCount("")
        self._requests = self._finished = self._cancelled = self._peak = 0
        self._lag = 0.0
        self._lateness.clear()

    def reset(self) -> None:
        """Forget what has ended; open connections and live requests start the new count."""
        prompts = self._prompts
        self._clear()
        for record in self._live.values():
            if record.prompt is not None:
                self._count_call(record.prompt, prompts[record.prompt].prompt if record.prompt in prompts else "")
        for connection in self._open.values():
            connection.streams = connection.peak = connection.live
            connection.refused = 0
        self._paths.update(record.path for record in self._live.values())
        self._requests = self._peak = len(self._live)
        self._notify()

    def connected(self, protocol: str) -> ConnectionRecord:
        """Count a connection whose handshake is done; `protocol` is "h2" or "http/1.1"."""
        record = ConnectionRecord(next(self._connection_ids), protocol)
        self._open[record.id] = record
        self._notify()
        return record

    def disconnected(self, connection: ConnectionRecord) -> None:
        """Note that a connection has ended."""
        connection.closed = time.monotonic()
        if self._open.pop(connection.id, None) is not None and connection.counted:
            self._closed.append(connection)
        self._notify()

    def began(self, connection: ConnectionRecord, method: str, path: str) -> RequestRecord:
        """Count a request at the moment its stream opens; those that steer the emulator get a record of no effect."""
        request = next(self._request_ids)
        record = RequestRecord(request, connection.id, connection.protocol, method, path, _lateness=self._lateness)
        if path.startswith(CONTROL):
            connection.control = True
            return record
        self._live[record.id] = record
        self._requests += 1
        self._paths[path] += 1
        self._peak = max(self._peak, len(self._live))
        connection.streams += 1
        connection.live += 1
        connection.peak = max(connection.peak, connection.live)
        self._notify()
        return record

    def ended(self, record: RequestRecord, *, cancelled: bool) -> None:
        """Note that a request's answer is complete or, when `cancelled`, that the client left before."""
        if self._live.pop(record.id, None) is None:
            return
        record.end, record.cancelled = time.monotonic(), cancelled
        self._ended.append(record)
        self._finished += not cancelled
        self._cancelled += cancelled
        self._count_end(record)
        self._lag = max(self._lag, record.lag)
        if connection := self._open.get(record.connection):
            connection.live -= 1
        self._notify()

    def called(self, record: RequestRecord, fingerprint: str, prompt: str) -> None:
        """Count a request to generate that was understood, as a call of its prompt."""
        record.prompt = fingerprint
        self._count_call(fingerprint, prompt)
        self._notify()

    def _count_call(self, fingerprint: str, prompt: str) -> None:
        if fingerprint not in self._prompts and len(self._prompts) < KEPT_PROMPTS:
            self._prompts[fingerprint] = PromptCount(prompt[:KEPT_CHARACTERS])
        self._calls.calls += 1
        if (count := self._prompts.get(fingerprint)) is not None:
            count.calls += 1

    def _count_end(self, record: RequestRecord) -> None:
        if record.fault is not None:
            self._faults[record.fault] += 1
        if record.prompt is None:
            return
        for count in (self._calls, self._prompts.get(record.prompt)):
            if count is not None:
                count.cancelled += record.cancelled
                count.completed += record.answered and not record.cancelled
                count.faulted += not record.answered and not record.cancelled and record.fault is not None

    def prompts(self) -> list[dict[str, Any]]:
        """Return the counts of every prompt."""
        return [{"fingerprint": one, **asdict(count)} for one, count in self._prompts.items()]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def received(self, body: bytes | bytearray) -> None:
        """Keep the body of a request to generate, unless it is large."""
        if len(body) < LARGE_BODY:
            self._bodies.append(bytes(body))

    def bodies(self) -> list[bytes]:
        """Return the latest bodies, the oldest first."""
        return list(self._bodies)

    def totals(self) -> dict[str, float]:
        """Return the counts alone: whole numbers, and how late chunks were, in seconds."""
        return {**self._counts(), **{f"lag_p{percent}": self._lateness.quantile(percent / 100) for percent in LAGS}}

    def _counts(self) -> dict[str, float]:
        """Return the totals that take no sorting."""
        connections = [connection for connection in self._open.values() if connection.counted]
        return {
            "requests": self._requests,
            "live": len(self._live),
            "peak": self._peak,
            "finished": self._finished,
            "cancelled": self._cancelled,
            "calls": self._calls.calls,
            "completed": self._calls.completed,
            "calls_cancelled": self._calls.cancelled,
            "calls_faulted": self._calls.faulted,
            "prompts": len(self._prompts),
            "connections": len(connections) + len(self._closed),
            "connections_open": len(connections),
            "worst_lag": max([self._lag, *(record.lag for record in self._live.values())]),
        }

    def snapshot(self, *, details: bool = True) -> dict[str, Any]:
        """Return the totals and, with `details`, every connection and request that is kept."""
        answer: dict[str, Any] = {"totals": self.totals(), "now": time.monotonic(), "now_unix": time.time()}
        connections = [record for record in (*self._closed, *self._open.values()) if record.counted]
        answer["protocols"] = dict(Counter(record.protocol for record in connections))
        answer["paths"] = dict(self._paths)
        answer["faults"] = dict(self._faults)
        if details:
            answer["connections"] = [asdict(record) for record in connections]
            answer["requests"] = [record.as_json() for record in (*self._ended, *self._live.values())]
        return answer

    async def reached(self, at_least: dict[str, float], at_most: dict[str, float]) -> None:
        """Return once every named total is within its bounds; KeyError names an unknown total."""
        # Asked again at each change: what costs much is left out when it is not asked for.
        totals = self._counts if self._counts().keys() >= at_least.keys() | at_most.keys() else self.totals
        while not _within(totals(), at_least, at_most):
            await self._changed.wait()


def _within(totals: dict[str, float], at_least: dict[str, float], at_most: dict[str, float]) -> bool:
    return all(totals[name] >= bound for name, bound in at_least.items()) and all(
        totals[name] <= bound for name, bound in at_most.items()
    )
