"""How long a provider may be silent, and what happens when it is silent for longer."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from genqueue_worker import stalls
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Chunk, Piece, ProviderRequest
from genqueue_worker.stalls import Heard, Limits, Stalls, parse_limits

REQUEST = ProviderRequest("models/gemini-2.5-pro", [])
THOUGHT = Chunk((Piece("thought", "Hm."),))
COUNTED = Chunk(usage={"totalTokenCount": 3})
NEVER = 3600.0


@pytest.mark.parametrize(
    ("model", "lane", "seconds"),
    [
        ("gemini-2.5-pro", "high", 60),
        ("models/gemini-2.5-pro", "high", 60),
        ("gemini-2.5-pro", "low", 120),
        ("gemini-2.5-flash", "high", 10),
        ("gemini-2.5-flash", "normal", 30),
        ("tunedModels/mine", "high", 45),
    ],
)
def test_the_most_specific_limit_counts(model, lane, seconds):
    """Model and lane, then the model, then the lane, then the plain number."""
    text = "30, high=10,gemini-2.5-pro = 120,gemini-2.5-pro/high=60,tunedModels/mine=45"
    assert parse_limits(text, 1.0).of(model, lane) == seconds


def test_a_list_without_a_plain_number_leaves_the_default():
    """And a number alone is one for all."""
    assert parse_limits("high=10", 30.0) == Limits(30.0, {"high": 10.0})
    assert parse_limits("2.5", 30.0) == Limits(2.5)


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("", "''"),
        ("30,40", "'40' is there twice"),
        ("30,high=1,high=2", "'high=2' is there twice"),
        ("30,,high=4", "''"),
        ("30,high", "'high' has no number"),
        ("high=0", "'high=0' has no number"),
        ("high=nan", "'high=nan' has no number"),
        ("high=1e9", "'high=1e9' has no number"),
        ("30,=3", "'=3' is none"),
        ("30,a b=3", "'a b=3' is none"),
    ],
)
def test_a_wrong_item_is_named(text, item):
    """With what is expected."""
    with pytest.raises(ValueError, match="expected seconds, or a list such as") as raised:
        parse_limits(text, 30.0)
    assert item in str(raised.value)


class Provider:
    """Says chunks, each after a time of its own."""

    def __init__(self, *said):
        self.said = said
        self.closed = False

    async def stream(self, request, route):
        """Say them."""
        try:
            for seconds, chunk in self.said:
                await asyncio.sleep(seconds)
                yield chunk
        finally:
            self.closed = True


async def heard(provider, attempt, limits):
    """Return the chunks heard, and the error that ended them."""
    found = []
    try:
        async with aclosing(Heard(provider, limits, attempt).stream(REQUEST, None)) as chunks:
            async for chunk in chunks:
                found.append(chunk)  # noqa: PERF401 - what came before an error counts
    except ProviderError as error:
        return found, error
    return found, None


async def test_an_answer_in_time_is_passed_on(make_attempt):
    """Nothing is left of its timers."""
    provider = Provider((0, THOUGHT), (0.01, COUNTED), (0, THOUGHT))
    assert await heard(provider, make_attempt(), Stalls()) == ([THOUGHT, COUNTED, THOUGHT], None)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([(NEVER, THOUGHT)], "first_token_timeout"),
        ([(0, COUNTED), (NEVER, THOUGHT)], "first_token_timeout"),
        ([(0, THOUGHT), (NEVER, THOUGHT)], "token_timeout"),
        ([(0, THOUGHT), (0, COUNTED), (NEVER, THOUGHT)], "token_timeout"),
    ],
)
async def test_a_silent_provider_is_cut(make_attempt, said, code):
    """A thought is a token, a count of them is none; the error may be retried and says which setting bounds it."""
    provider = Provider(*said)
    found, error = await heard(provider, make_attempt(), Stalls(Limits(0.05), Limits(0.05)))
    assert found == [chunk for _, chunk in said[:-1]]
    assert (error.code, error.retryable) == (code, True)
    assert f"within 0.05 s, as GENQUEUE_{code.upper()} allows" in error.message
    assert provider.closed


async def test_a_sign_of_life_begins_the_wait_anew(make_attempt):
    """Messages without a token come in time, and together take longer than one may."""
    provider = Provider(*[(0.05, COUNTED)] * 8, (0, THOUGHT))
    assert (await heard(provider, make_attempt(), Stalls(Limits(0.3), Limits(0.3))))[1] is None


async def test_a_lane_that_was_raised_meanwhile_counts(make_attempt, monkeypatch):
    """The limit is the present lane's, also for a wait that began before."""
    monkeypatch.setattr(stalls, "LOOK", 0.01)
    attempt = make_attempt(lane="low")
    limits = Stalls(parse_limits("3600,gemini-2.5-pro/high=0.1", 1.0))
    hearing = asyncio.ensure_future(heard(Provider((NEVER, THOUGHT)), attempt, limits))
    await asyncio.wait([hearing], timeout=0.15)
    assert not hearing.done()
    attempt.lane = "high"
    async with asyncio.timeout(5):
        assert (await hearing)[1].code == "first_token_timeout"


async def test_a_cancellation_is_no_stall(make_attempt):
    """It goes on as one, and the provider's stream is closed."""
    provider = Provider((NEVER, THOUGHT))
    hearing = asyncio.ensure_future(heard(provider, make_attempt(), Stalls()))
    await asyncio.wait([hearing], timeout=0.01)
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert provider.closed


async def test_a_swallowed_cancellation_is_a_stall_as_well(make_attempt):
    """And what is cancelled later is cancelled."""

    class Swallowing(Provider):
        async def stream(self, request, route):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(NEVER)
            yield THOUGHT

    found, error = await heard(Swallowing(), make_attempt(), Stalls(Limits(0.02), Limits(0.02)))
    assert (found, error.code) == ([], "first_token_timeout")
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_beside_a_stall_counts(make_attempt):
    """Whoever cancelled the attempt while it was cut is heard."""

    class Cancelled(Provider):
        async def stream(self, request, route):
            try:
                await asyncio.sleep(NEVER)
                yield THOUGHT
            except asyncio.CancelledError:
                asyncio.current_task().cancel()
                raise

    hearing = asyncio.ensure_future(heard(Cancelled(), make_attempt(), Stalls(Limits(0.02))))
    await asyncio.wait([hearing], timeout=5)
    assert hearing.cancelled()


async def test_a_timeout_of_the_providers_own_stays_its_own(make_attempt):
    """It is not taken for a stall."""

    class Failing(Provider):
        async def stream(self, request, route):
            raise TimeoutError("mine")
            yield

    with pytest.raises(TimeoutError, match="mine"):
        await heard(Failing(), make_attempt(), Stalls())
