"""A worker whose key is refused: it takes no jobs while others do, and fails them when nobody does."""

import asyncio
import math

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from genqueue_worker import access as module
from genqueue_worker.access import Access, Doors
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Route
from genqueue_worker.slots import Slots

REFUSED = ProviderError("INVALID_ARGUMENT", "API key not valid.", 400, doubts_key=True)
DOUBTED = ProviderError("PERMISSION_DENIED", "You do not have permission.", 403, doubts_key=True)


class Provider:
    """Accepts a key, or answers as told.

    Attributes:
        error: what a trial fails with; None accepts.
        trials: how many there were.
        tried: set with each.
    """

    def __init__(self):
        self.error = None
        self.trials = 0
        self.tried = asyncio.Event()

    async def prove(self, route):
        """Answer a trial."""
        self.trials += 1
        self.tried.set()
        if self.error is not None:
            raise self.error


class Served:
    """Knows when the lanes were last served.

    Attributes:
        age: of lane high, in seconds.
        marks: how often this worker said that it serves them.
        error: what the data server answers instead.
    """

    def __init__(self):
        self.age = 0.0
        self.marks = 0
        self.error = None
        self.marked = asyncio.Event()

    async def mark(self):
        """Take a mark."""
        self.marks += 1
        self.marked.set()

    async def ages(self):
        """Return the age of high; the other lanes are served."""
        if self.error is not None:
            raise self.error
        return {"high": self.age, "normal": 0.0}


@pytest.fixture
async def world(monkeypatch):
    """Return an access with its provider, marks and slots in reach; a trial's verdict is not believed for long."""
    monkeypatch.setattr(module, "BELIEVED", 0.0)
    slots = Slots(limit=4)
    made = Access(Provider(), Route("gemini", "https://x", "key"), Served(), patience=0.0, doors=Doors(slots))
    made.provider, made.served, made.slots = made._provider, made._served, slots
    return made


async def test_a_key_that_is_accepted_holds_nothing(world):
    """No attempt is barred, and nobody is asked."""
    assert await world.try_key() == "taken"
    assert await world.bar("high") is None
    assert world.slots.free


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_key_fetches_nothing_while_others_serve(world, caplog, status):
    """What was fetched before is for others: the error may be retried. The log says what to do."""
    world.provider.error = ProviderError("WHY", "No.", status)
    assert await world.try_key() == "refused"
    assert not world.slots.free
    barred = await world.bar("high")
    assert (barred.code, barred.retryable) == ("WHY", True)
    assert "access.refused route=gemini code=WHY" in caplog.text
    assert "set GENQUEUE_GEMINI_API_KEY" in caplog.text


@pytest.mark.parametrize("age", [math.inf, 7.0])
async def test_when_nobody_serves_jobs_fail_in_the_providers_words(world, age):
    """They are fetched again for it, and nothing that others serve; each trial of the key is a fresh one."""
    world.provider.error, world.served.age = REFUSED, age
    await world.try_key()
    barred = await world.bar("high")
    assert (barred.code, barred.message, barred.retryable) == ("INVALID_ARGUMENT", "API key not valid.", False)
    assert world.slots.free
    assert (await world.bar("normal")).retryable
    assert [world.slots.is_open(f"generate.{lane}") for lane in ("high", "normal", "low")] == [True, False, False]
    assert world.provider.trials == 2
    world.provider.error = None
    assert await world.bar("high") is None
    assert world.refusal is None


async def test_jobs_wait_before_they_fail(world):
    """A worker with another key may start meanwhile, or an operator put it right; also while nobody can tell."""
    world.provider.error, world.served.age = REFUSED, math.inf
    await world.try_key()
    world._patience = 3600.0
    assert (await world.bar("high")).retryable
    world._patience, world.served.error = 0.0, RedisConnectionError("away")
    assert (await world.bar("high")).retryable
    assert not world.slots.free


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (None, "taken"),
        (REFUSED, "refused"),
        (ProviderError("UNAVAILABLE", "Later.", 503, retryable=True), "unknown"),
        (ProviderError("connect_error", "refused", retryable=True), "unknown"),
    ],
)
async def test_a_doubt_is_settled_by_a_request_that_is_surely_right(world, answer, verdict):
    """A 403 may be about a file or a model; a provider that is away proves nothing."""
    world.provider.error = answer
    assert await world.doubt(DOUBTED) == verdict
    assert (world.refusal is not None) == (verdict == "refused")


async def test_many_doubts_make_one_trial(world, monkeypatch):
    """All attempts that were refused together learn from the first."""
    monkeypatch.setattr(module, "BELIEVED", 60.0)
    assert await asyncio.gather(*(world.doubt(DOUBTED) for _ in range(50))) == ["taken"] * 50
    assert world.provider.trials == 1


async def test_a_trial_that_hangs_proves_nothing(world, monkeypatch):
    """It is cut off."""
    monkeypatch.setattr(module, "TRIAL", 0.01)
    world.provider.prove = lambda route: asyncio.Event().wait()
    assert await world.try_key() == "unknown"


async def test_a_key_put_right_is_found_out(world, monkeypatch, caplog):
    """The worker fetches again, and says that it serves."""
    monkeypatch.setattr(module, "FIRST_TRIAL", 0.001)
    monkeypatch.setattr(module, "LOOK", 0.001)
    world.provider.error = REFUSED
    await world.try_key()
    world.provider.tried.clear()
    running = asyncio.ensure_future(world.run())
    async with asyncio.timeout(5):
        await world.provider.tried.wait()
        assert world.served.marks == 0
        world.provider.error = None
        await world.served.marked.wait()
    assert world.slots.free
    assert "access.accepted" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def two(world):
    """Return two accesses of one worker, of which one has the key refused."""
    doors = world._doors
    other = Access(Provider(), Route("openai", "https://y", "key", kind="openai"), Served(), 0.0, doors)
    other._provider.error = REFUSED
    await other.try_key()
    return world, other


async def test_a_worker_that_another_provider_serves_goes_on_fetching(two):
    """What it hands back is put off, as it would be the first to fetch it again."""
    served, refused = two
    assert served.slots.free
    assert served.slots.is_open("generate.high")
    assert await served.bar("high") is None
    assert (await refused.bar("high")).retryable
    assert refused.pause("high") == pytest.approx(module.LOOK, abs=0.01)


async def test_what_is_put_off_does_not_come_again_all_at_once(two):
    """Thousands every two seconds would leave no turn to jobs that are served; but none waits without end."""
    _, refused = two
    pauses = [refused.pause("high") for _ in range(101)]
    assert pauses[-1] == pytest.approx(module.LOOK + 100 * module.SPACING, abs=0.1)
    pauses = [refused.pause("high") for _ in range(int(module.LONGEST_TRIAL / module.SPACING))]
    assert pauses[-1] <= module.LONGEST_TRIAL


async def test_a_worker_that_nobody_serves_fetches_nothing(two):
    """Nothing is put off: it would not fetch it again. One key put right is enough to go on."""
    first, other = two
    first.provider.error = REFUSED
    await first.try_key()
    assert not first.slots.free
    assert (first.pause("high"), other.pause("high")) == (0.0, 0.0)
    other._provider.error = None
    await other.try_key()
    assert first.slots.free
    assert first.slots.is_open("generate.low")
