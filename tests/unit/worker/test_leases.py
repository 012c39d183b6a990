"""Keeping attempts alive, and stopping those that were taken away."""

import asyncio
import contextlib

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from genqueue_worker import leases as leases_module
from genqueue_worker.leases import Leases

LEASE_MS = {"high": 4000, "normal": 15_000, "low": 15_000}


class Courier:
    """Answers renewals as a test says."""

    def __init__(self):
        self.calls = []
        self.answer = lambda call: [b"ok", b"normal"]
        self.asked = asyncio.Event()

    async def ask(self, call):
        """Answer one call."""
        self.calls.append(call)
        self.asked.set()
        reply = self.answer(call)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Inbox:
    """A subscription that delivers what a test puts into it, or fails with it."""

    def __init__(self):
        self.messages = asyncio.Queue()
        self.channels = []

    def pubsub(self, **options):
        """Return itself, as a connection would a subscription."""
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def subscribe(self, channel):
        """Note the channel."""
        self.channels.append(channel)

    async def get_message(self, *, timeout):
        """Return the next message."""
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message if message is None else {"data": message}


@contextlib.asynccontextmanager
async def doing(work):
    """Run background work for as long as the block takes."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def courier():
    """Make a courier that says yes."""
    return Courier()


@pytest.fixture
async def inbox():
    """Make an empty inbox."""
    return Inbox()


@pytest.fixture
async def leases(inbox, courier, keys, monkeypatch):
    """Make leases that are renewed again and again without a pause."""
    monkeypatch.setattr(leases_module, "RENEWAL", 0)
    return Leases(inbox, courier, keys, LEASE_MS)


async def stopped(attempt):
    """Wait until an attempt's task was cancelled."""
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await attempt.task


async def test_held_attempts_are_renewed_by_their_lane(leases, courier, make_attempt):
    """Each for as long as its lane says, and only while it is held."""
    with leases.hold(make_attempt("a", "high")), leases.hold(make_attempt("b", "low")):
        assert len(leases) == 2
        async with doing(leases.renew()):
            await courier.asked.wait()
    assert len(leases) == 0
    assert {(call.args[2], call.args[3]) for call in courier.calls} == {("a", 4000), ("b", 15_000)}


async def test_a_lane_that_was_raised_is_taken_over(leases, courier, make_attempt):
    """The next renewal is by the new one."""
    attempt = make_attempt("a", "low")
    courier.answer = lambda call: [b"ok", b"high"]
    with leases.hold(attempt):
        async with doing(leases.renew()), asyncio.timeout(5):
            while len(courier.calls) < 2:
                courier.asked.clear()
                await courier.asked.wait()
    assert attempt.lane == "high"
    assert [call.args[3] for call in courier.calls[:2]] == [15_000, 4000]


async def test_an_attempt_whose_token_is_void_is_stopped(leases, courier, make_attempt):
    """And no other one."""
    void, good = make_attempt("void"), make_attempt("good")
    courier.answer = lambda call: [b"refused", b""] if "void" in call.args else [b"ok", b"normal"]
    with leases.hold(void), leases.hold(good):
        async with doing(leases.renew()):
            await stopped(void)
    assert (void.refused, good.refused) == (True, False)


async def test_a_renewal_that_fails_stops_nobody(leases, courier, make_attempt, caplog):
    """The server may be back before the lease is over; one that answers is renewed all the same."""
    first, second = make_attempt("first"), make_attempt("second")
    courier.answer = lambda call: RedisConnectionError("away") if "first" in call.args else [b"ok", b"high"]
    with leases.hold(first), leases.hold(second):
        async with doing(leases.renew()), asyncio.timeout(5):
            while second.lane != "high":
                courier.asked.clear()
                await courier.asked.wait()
                await asyncio.sleep(0)
    assert not first.refused
    assert "leases.not_renewed" in caplog.text


async def test_an_attempt_that_settles_is_not_renewed(leases, courier, make_attempt):
    """Its token ends with its settlement."""
    settling, running = make_attempt("settling"), make_attempt("running")
    settling.settling = True
    with leases.hold(settling), leases.hold(running):
        async with doing(leases.renew()):
            await courier.asked.wait()
    assert {call.args[2] for call in courier.calls} == {"running"}


async def test_a_call_off_stops_the_attempt_with_that_token(leases, inbox, make_attempt):
    """Whatever else comes on the channel."""
    called_off, other = make_attempt("mine"), make_attempt("other")
    with leases.hold(called_off), leases.hold(other):
        async with doing(leases.listen("inbox")):
            for message in (None, b"3-f unknown", b"noise", b"3-f mine"):
                inbox.messages.put_nowait(message)
            await stopped(called_off)
    assert (called_off.refused, other.refused) == (True, False)
    assert inbox.channels == ["inbox"]


async def test_a_lost_subscription_is_made_again(leases, inbox, make_attempt, caplog):
    """And hears what comes then."""
    attempt = make_attempt("mine")
    inbox.messages.put_nowait(RedisConnectionError("away"))
    inbox.messages.put_nowait(b"3-f mine")
    with leases.hold(attempt):
        async with doing(leases.listen("inbox")):
            await stopped(attempt)
    assert inbox.channels == ["inbox", "inbox"]
    assert "leases.deaf" in caplog.text
