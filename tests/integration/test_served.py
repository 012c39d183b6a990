"""The marks by which workers know whether anybody serves a lane."""

import math

import pytest
import redis.asyncio

from genqueue.keys import Keys
from genqueue_worker.access import MARK_MS, Served


@pytest.fixture
async def data(database_url):
    """Return a connection to an empty database."""
    async with redis.asyncio.Redis.from_url(database_url) as connection:
        yield connection


async def test_a_lane_is_served_while_somebody_says_so(data, prefix):
    """Each lane for itself; the age is told by the server's clock, and every mark expires."""
    keys = Keys(prefix, 4)
    own, other = Served(data, keys, "gemini", lambda: ("high", "low")), Served(data, keys, "gemini", lambda: ("low",))
    assert await own.ages() == {"high": math.inf, "low": math.inf}
    await other.mark()
    assert [age < 5 for age in (await own.ages()).values()] == [False, True]
    await own.mark()
    await data.pexpire(keys.served("gemini", "low"), MARK_MS - 60_000)
    ages = await own.ages()
    assert 0 <= ages["high"] < 5
    assert 60 <= ages["low"] < 65
    await other.mark()
    assert (await own.ages())["low"] < 5
    assert [await data.pttl(key) > 0 for key in await data.keys()] == [True, True]


async def test_a_lane_is_served_with_one_provider_or_another(data, prefix):
    """Who serves it with one says nothing of the other."""
    keys = Keys(prefix, 4)
    await Served(data, keys, "openai", lambda: ("high",)).mark()
    assert await Served(data, keys, "gemini", lambda: ("high",)).ages() == {"high": math.inf}
    assert (await Served(data, keys, "openai", lambda: ("high",)).ages())["high"] < 5
