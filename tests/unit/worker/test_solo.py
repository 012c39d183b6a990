"""Flights that wait for a process of their own."""

import asyncio

import pytest

from genqueue_worker import solo as module
from genqueue_worker.settings import WorkerSettings
from genqueue_worker.solo import DOUBLE, Ended, Solo
from genqueue_worker.telemetry import Telemetry


class Nursery:
    """Runs a flight until it is told how it ended.

    Attributes:
        running: how each will have ended.
        began: set when it began.
    """

    gone = over = False

    def __init__(self):
        self.running = {}
        self.began = {"1-a": asyncio.Event(), "1-b": asyncio.Event()}

    def run(self, _number, flight, _stamp, _claimed):
        """Begin."""
        self.running[flight] = asyncio.get_running_loop().create_future()
        self.began[flight].set()
        return self.running[flight]


class Ledger:
    """Says what became of a flight that waits.

    Attributes:
        answer: what it says.
        asked: set when it was asked.
    """

    def __init__(self):
        self.answer = None
        self.asked = asyncio.Event()

    async def __call__(self):
        """Answer."""
        self.asked.set()
        return self.answer


@pytest.fixture
def nursery(monkeypatch):
    """Make suspects ask again at once, and give the nursery they run in."""
    monkeypatch.setattr(module, "REMINDER", 0.01)
    return Nursery()


@pytest.fixture
def solo(nursery, monkeypatch):
    """Make room for one."""

    async def living(_self):
        return nursery

    monkeypatch.setattr(Solo, "_living", living)
    return Solo(WorkerSettings(gemini_api_key="key", suspects=1), Telemetry())


async def test_a_flight_that_waits_for_room_is_asked_for(solo, nursery):
    """While another runs it is asked for, so that it is not published again; then it runs, once."""
    ledger = Ledger()
    first = asyncio.create_task(solo.run("1-a", 1, ledger))
    second = asyncio.create_task(solo.run("1-b", 2, ledger))
    await asyncio.wait_for(ledger.asked.wait(), 5)
    assert set(nursery.running) == {"1-a"}
    assert await solo.run("1-b", 3, ledger) == DOUBLE

    nursery.running["1-a"].set_result(Ended("succeeded", "succeeded"))
    assert await first == "succeeded"
    await asyncio.wait_for(nursery.began["1-b"].wait(), 5)
    nursery.running["1-b"].set_result(Ended("succeeded", "succeeded"))
    assert await second == "succeeded"


async def test_a_flight_that_ended_elsewhere_costs_no_process(solo, nursery):
    """It leaves its place as soon as the ledger says so."""
    ledger = Ledger()
    first = asyncio.create_task(solo.run("1-a", 1, ledger))
    second = asyncio.create_task(solo.run("1-b", 2, ledger))
    await asyncio.wait_for(ledger.asked.wait(), 5)
    ledger.answer = "done"
    assert await second == "done"
    assert set(nursery.running) == {"1-a"}
    nursery.running["1-a"].set_result(Ended("succeeded", "succeeded"))
    assert await first == "succeeded"
