"""A runtime whose parts are played: a courier that answers as told, a provider that says what it is told to."""

import asyncio
import random
from dataclasses import replace

import pytest

from genqueue.payload.codec import PLAIN
from genqueue_worker import runner
from genqueue_worker.cargo import Cargo, Limits
from genqueue_worker.leases import Leases
from genqueue_worker.model_table import ModelTable
from genqueue_worker.providers.seam import Chunk, Piece, Route
from genqueue_worker.runtime import Runtime
from genqueue_worker.shown import Streams
from genqueue_worker.ways import Way, Ways

FLIGHT = "3-" + "f" * 20
REQUEST = b'{"v":1,"model":"gemini-x","contents":[{"role":"user","parts":[{"text":"What?"}]}],"config":{}}'
GRANTED = [b"ok", 1, 0, b"normal", 9_000_000, b"acme", REQUEST, 1_000_000, 1_002_000, 0, b"", 0, b"restart"]
WHOLE = [Chunk(entries=(Piece("delta", text="Yes."),)), Chunk(finish_reason="STOP", usage={"totalTokenCount": 4})]


class Courier:
    """Keeps what was written, and answers claims and settlements.

    Attributes:
        replies: replies by name of script; the last of a script's is given again and again.
    """

    def __init__(self):
        self.calls = []
        self.written = []
        self.replies = {"claim": [GRANTED], "settle": [[b"succeeded", b"", b"", b""]]}

    async def ask(self, call):
        """Answer one call."""
        self.calls.append(call)
        replies = self.replies[call.script.name]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def write(self, attempt, entries):
        """Keep entries."""
        attempt.add(entries)
        self.written += entries

    def settlement(self):
        """Return the outcome of the last settlement and the fields of its event."""
        args = self.calls[-1].args
        assert self.calls[-1].script.name == "settle"
        fields = args[8 : 8 + args[7]]
        return args[3], dict(zip(fields[::2], fields[1::2], strict=True))


class Provider:
    """Says what it is told to: chunks, then an error or a wait without end.

    Attributes:
        closed: whether its stream was closed.
        speaking: set when all chunks have been said.
        requests: what was asked.
    """

    def __init__(self):
        self.chunks = WHOLE
        self.error = None
        self.endless = False
        self.closed = False
        self.speaking = asyncio.Event()
        self.requests = []

    async def stream(self, request, route):
        """Say it."""
        self.requests.append(request)
        try:
            for chunk in self.chunks:
                yield chunk
            self.speaking.set()
            if self.error is not None:
                raise self.error
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed = True


class Access:
    """Says whether the key is taken, as told.

    Attributes:
        refusal: how the key is refused; None when it is taken.
        verdict: what a doubt comes to.
        trials: how often the key was tried.
        doubts: the errors that were doubted.
    """

    def __init__(self, refusal=None, verdict="unknown"):
        self.refusal = refusal
        self.verdict = verdict
        self.trials = 0
        self.doubts = []

    async def bar(self, lane):
        """Say it."""
        return self.refusal

    async def doubt(self, error):
        """Judge."""
        self.doubts.append(error)
        return self.verdict

    async def try_key(self):
        """Count a trial."""
        self.trials += 1

    def pause(self, lane):
        """Say how long what is handed back is put off."""
        return 0.0


class Solo:
    """Runs suspects.

    Attributes:
        told: what each ends as.
        ran: those that were run.
    """

    def __init__(self):
        self.told = "succeeded"
        self.ran = []

    async def run(self, flight, stamp, _settled):
        """Run one."""
        self.ran.append(flight)
        return self.told


class Data:
    """Has the entries of one stream.

    Attributes:
        entries: fields of each, in order.
        pages: how many reads there were.
        failures: exceptions to raise first.
    """

    def __init__(self):
        self.entries = []
        self.pages = 0
        self.failures = []

    async def hget(self, key, field):
        """Return a flight's request."""
        return REQUEST if field == "request" else None

    async def xrange(self, key, after, end, count):
        """Return a page."""
        if self.failures:
            raise self.failures.pop(0)
        self.pages += 1
        first = 0 if after == "-" else int(after.removeprefix("(").partition("-")[0])
        found = self.entries[first : first + count]
        return [
            (b"%d-0" % number, {name.encode(): value.encode() for name, value in fields.items()})
            for number, fields in enumerate(found, first + 1)
        ]


class Sweeper:
    """Notes what is to be published."""

    def __init__(self):
        self.published = []

    async def publish(self, publications):
        """Note publications."""
        self.published += publications


@pytest.fixture
async def runtime(keys, monkeypatch):
    """Make a runtime whose parts are played."""
    monkeypatch.setattr(runner, "RETRY", 0)
    courier = Courier()
    leases = Leases(None, courier, keys, {"high": 4000, "normal": 15_000, "low": 15_000})
    return Runtime(
        keys,
        "inbox",
        leases,
        courier,
        Sweeper(),
        Ways(ModelTable(["gemini"]), {"gemini": Way(Provider(), Route("gemini", "https://x", "key"), Access())}),
        None,  # nobody is admitted
        Cargo(None, None, keys, Limits(20_000_000, 100_000_000)),
        Streams(Data(), keys, PLAIN),
        solo=Solo(),
        chance=random.Random(1),
    )


def way_of(runtime):
    """Return the one way of a runtime."""
    (way,) = runtime.ways
    return way


def provider_of(runtime):
    """Return the one provider of a runtime."""
    return way_of(runtime).provider


def with_way(runtime, **changes):
    """Return a runtime whose one way is another."""
    return replace(runtime, ways=Ways(runtime.ways.table, {"gemini": replace(way_of(runtime), **changes)}))
