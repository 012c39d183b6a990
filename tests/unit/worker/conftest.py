"""A worker's parts without a server: attempts, and a data server that answers as a test says."""

import asyncio

import pytest

from genqueue.keys import Keys
from genqueue.ledger import Claimed
from genqueue_worker.attempt import Attempt

from .played_runtime import runtime  # noqa: F401 - a fixture

FLIGHT = "3-" + "f" * 20
REQUEST = b'{"v":1,"model":"gemini-x","contents":[{"role":"user","parts":[{"text":"What?"}]}],"config":{}}'


class DataServer:
    """Stands in for `scripts.arun_many`: notes each pipeline and answers its calls.

    Attributes:
        pipelines: the calls of each pipeline, in order.
        answer: function of a call that returns its reply, or an exception to put in its place.
        away: an exception every pipeline fails with, while it is set.
        opened: replies are held back while this event is not set.
    """

    def __init__(self):
        self.pipelines = []
        self.answer = lambda call: [b"ok", 0]
        self.away = None
        self.opened = asyncio.Event()
        self.opened.set()
        self._arrived = asyncio.Condition()

    async def arun_many(self, client, calls):
        """Take a pipeline."""
        self.pipelines.append(list(calls))
        async with self._arrived:
            self._arrived.notify_all()
        await self.opened.wait()
        if self.away is not None:
            raise self.away
        return [self.answer(call) for call in calls]

    async def has(self, pipelines):
        """Wait until that many pipelines have arrived."""
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: len(self.pipelines) >= pipelines)

    def names(self):
        """Return the names of the scripts in each pipeline."""
        return [[call.script.name for call in pipeline] for pipeline in self.pipelines]


@pytest.fixture
async def data_server(monkeypatch):
    """Put a data server of the test's own behind every pipeline of scripts."""
    made = DataServer()
    monkeypatch.setattr("genqueue.scripts.arun_many", made.arun_many)
    return made


@pytest.fixture
def keys():
    """Spell the keys of a deployment with few partitions."""
    return Keys("gq", 4)


@pytest.fixture
def facts():
    """Return what a claim told."""
    return Claimed(1, 0, "normal", 9_000_000, "acme", REQUEST, 1_000_000, 1_002_000, 0)


@pytest.fixture
async def make_attempt(facts):
    """Make attempts whose tasks wait to be cancelled; all are ended afterwards."""
    tasks = []

    def make(token="token", lane="normal"):
        task = asyncio.ensure_future(asyncio.Event().wait())
        tasks.append(task)
        return Attempt(FLIGHT, token, facts, lane, task)

    yield make
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
