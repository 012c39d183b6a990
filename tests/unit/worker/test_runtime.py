"""A worker's start: every provider is asked first, and one that hangs does not hold up those that serve."""

import asyncio

import pytest

from genqueue_worker import runtime


class Way:
    """Answers once it may.

    Attributes:
        has_answered: whether it has.
    """

    def __init__(self):
        self.has_answered = False
        self.may = asyncio.Event()

    async def prepare(self):
        """Wait until it may answer."""
        await self.may.wait()
        self.has_answered = True


@pytest.fixture
async def ways(monkeypatch):
    """Return two ways, neither of which answers yet; for the one that is late nobody waits long."""
    monkeypatch.setattr(runtime, "OTHERS_PATIENCE", 0.01)
    return [Way(), Way()]


async def test_a_provider_that_hangs_holds_up_no_other(ways):
    """It is asked on, in a task that is to be ended with the worker."""
    served, hanging = ways
    served.may.set()
    async with asyncio.TaskGroup() as background:
        (late,) = await runtime.prepared(ways, background)
        assert not late.done()
        hanging.may.set()
    assert hanging.has_answered


async def test_while_none_has_answered_all_are_waited_for(ways):
    """A worker that nobody serves is not ready any sooner."""
    async with asyncio.TaskGroup() as background:
        preparing = background.create_task(runtime.prepared(ways, background))
        await asyncio.wait([preparing], timeout=0.05)
        assert not preparing.done()
        for way in ways:
            way.may.set()
        assert await preparing == []
