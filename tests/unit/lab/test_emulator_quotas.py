import datetime as dt
import ssl

import httpx
import pytest

from genqueue_lab.emulator import Options, Pace
from genqueue_lab.emulator.quotas import Meters, Quota
from genqueue_lab.emulator.server import Emulator


class Moment:
    """A clock that is set."""

    def __init__(self):
        self.now = 1_800_000_000.0  # on a whole minute

    def __call__(self):
        """Return what it is set to."""
        return self.now


@pytest.fixture
def clock():
    """Return a clock that stands at a whole minute."""
    return Moment()


def test_a_fixed_window_starts_anew_with_the_minute(clock):
    """Requests of the old minute do not count in the next, not even those of its last second."""
    meters = Meters(Quota(rpm=2), clock)
    clock.now += 59
    assert [meters.admit("key", "m") is None for _ in range(3)] == [True, True, False]
    assert meters.admit("key", "m").wait == 1
    clock.now += 1
    assert meters.admit("key", "m") is None
    assert meters.refused == 2


def test_a_sliding_window_lets_one_in_as_one_falls_out(clock):
    """At no moment are there more than the limit within a minute; a refused request takes nothing."""
    meters = Meters(Quota(rpm=2, window="sliding"), clock)
    admitted = []
    for at in (0, 40, 50, 60, 61, 99, 100):
        clock.now = 1_800_000_000.0 + at
        admitted.append(meters.admit("key", "m") is None)
    assert admitted == [True, True, False, True, False, False, True]
    assert meters.admit("key", "m").wait == 20


def test_keys_and_models_are_counted_apart(clock):
    """Another key, or another model, has a quota of its own."""
    meters = Meters(Quota(rpm=1), clock)
    assert [meters.admit(*who) is None for who in (("a", "m"), ("a", "n"), ("b", "m"), ("a", "m"))] == [
        True,
        True,
        True,
        False,
    ]


def test_a_day_ends_at_midnight_in_california(clock):
    """The quota per day waits for midnight there, whatever the minute has left."""
    meters = Meters(Quota(rpd=1, rpm=5), clock)
    assert meters.admit("key", "m") is None
    excess = meters.admit("key", "m")
    assert excess.per == "Day"
    midnight = dt.datetime.fromtimestamp(clock.now + excess.wait, dt.UTC)
    assert (midnight.hour, midnight.minute) in {(7, 0), (8, 0)}
    clock.now += excess.wait
    assert meters.admit("key", "m") is None


async def test_a_request_too_many_gets_googles_answer(tmp_path):
    """429 with Help, QuotaFailure and RetryInfo; the quota can be lifted while it runs."""
    options = Options(pace=Pace(ttft=0, tpot=0, tokens=1), directory=tmp_path, quota=Quota(rpm=1, minute=3600))
    async with Emulator(options) as emulator:
        trust = ssl.create_default_context(cafile=emulator.ca_file)
        async with httpx.AsyncClient(base_url=emulator.url, verify=trust, http2=True) as client:

            async def ask():
                body = {"contents": [{"parts": [{"text": "hello"}]}]}
                return await client.post("/v1beta/models/gemini-2.5-flash:generateContent?key=k", json=body)

            first, second = await ask(), await ask()
            error = second.json()["error"]
            assert (first.status_code, error["code"], error["status"]) == (200, 429, "RESOURCE_EXHAUSTED")
            kinds = [detail["@type"].rpartition(".")[2] for detail in error["details"]]
            assert kinds == ["Help", "QuotaFailure", "RetryInfo"]
            (violation,) = error["details"][1]["violations"]
            assert violation["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
            assert (violation["quotaValue"], violation["quotaDimensions"]["model"]) == ("1", "gemini-2.5-flash")
            assert 0 < float(error["details"][2]["retryDelay"].removesuffix("s")) <= 3600
            before = (await client.post("/emulator/quotas", json={"rpm": None})).json()
            assert before["rpm"] == 1
            assert (await ask()).status_code == 200
            assert (await client.get("/emulator/quotas")).json()["refused"] == 1
            assert (await client.post("/emulator/quotas", json={"rpm": 0})).status_code == 400
            assert emulator.stats.snapshot()["faults"] == {"quota": 1}
