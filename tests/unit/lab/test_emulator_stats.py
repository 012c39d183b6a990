import asyncio

import pytest

from genqueue_lab.emulator.stats import Stats


async def test_peaks_and_ends_are_counted_per_connection():
    """Live and peak streams are exact for each connection, and the totals add them up."""
    stats = Stats()
    one, two = stats.connected("h2"), stats.connected("http/1.1")
    first, second = stats.began(one, "POST", "/a"), stats.began(one, "POST", "/a")
    stats.ended(first, cancelled=False)
    third = stats.began(two, "GET", "/b")
    stats.ended(second, cancelled=True)
    seen = stats.snapshot()
    assert [(record["live"], record["peak"], record["streams"]) for record in seen["connections"]] == [
        (0, 2, 2),
        (1, 1, 1),
    ]
    assert seen["protocols"] == {"h2": 1, "http/1.1": 1}
    assert seen["paths"] == {"/a": 2, "/b": 1}
    totals = seen["totals"]
    assert (totals["requests"], totals["live"], totals["peak"]) == (3, 1, 2)
    assert (totals["finished"], totals["cancelled"]) == (1, 1)
    assert seen["requests"][-1]["id"] == third.id


async def test_ending_twice_counts_once():
    """A stream that is reset after its end is not counted again."""
    stats = Stats()
    record = stats.began(stats.connected("h2"), "POST", "/a")
    stats.ended(record, cancelled=False)
    stats.ended(record, cancelled=True)
    assert stats.totals()["cancelled"] == 0
    assert not record.cancelled


async def test_steering_the_emulator_is_not_counted():
    """Requests under /emulator/ and connections that carried nothing else stay out of the statistics."""
    stats = Stats()
    connection = stats.connected("http/1.1")
    stats.ended(stats.began(connection, "GET", "/emulator/stats"), cancelled=False)
    stats.disconnected(connection)
    assert stats.totals()["connections"] == stats.totals()["requests"] == 0


async def test_a_reset_keeps_what_is_open():
    """After a reset the open connection and the live request start the new count."""
    stats = Stats()
    connection = stats.connected("h2")
    live, ended = stats.began(connection, "POST", "/a"), stats.began(connection, "POST", "/b")
    stats.called(live, "1", "why?")
    stats.called(ended, "2", "when?")
    ended.sent(5.0)
    stats.ended(ended, cancelled=True)
    stats.reset()
    assert stats.totals() == {
        "requests": 1,
        "live": 1,
        "peak": 1,
        "finished": 0,
        "cancelled": 0,
        "calls": 1,
        "completed": 0,
        "calls_cancelled": 0,
        "calls_faulted": 0,
        "prompts": 1,
        "connections": 1,
        "connections_open": 1,
        "worst_lag": 0.0,
        "lag_p50": 0.0,
        "lag_p90": 0.0,
        "lag_p99": 0.0,
    }
    assert [record["id"] for record in stats.snapshot()["requests"]] == [live.id]
    assert connection.peak == 1


async def test_a_reader_can_wait_for_a_count():
    """`reached` returns once every bound holds, and not before."""
    stats = Stats()
    connection = stats.connected("h2")
    record = stats.began(connection, "POST", "/a")
    waiting = asyncio.create_task(stats.reached({"finished": 1}, {"live": 0}))
    assert await asyncio.wait([waiting], timeout=0.01) == (set(), {waiting})
    stats.ended(record, cancelled=False)
    await waiting


async def test_an_unknown_count_is_an_error():
    """A misspelt name must not wait for ever."""
    with pytest.raises(KeyError):
        await Stats().reached({"finnished": 1}, {})


async def test_calls_are_counted_for_each_prompt():
    """A prompt that was asked twice has two calls, and each is completed, cancelled or faulted, once it has ended."""
    stats = Stats()
    connection = stats.connected("h2")
    whole, left, struck, live = (stats.began(connection, "POST", "/a") for _ in range(4))
    for record in (whole, left, struck):
        stats.called(record, "1", "why?")
    stats.called(live, "2", "when?")
    whole.answered, struck.fault = True, "reset"
    stats.ended(whole, cancelled=False)
    stats.ended(left, cancelled=True)
    stats.ended(struck, cancelled=False)
    assert stats.prompts() == [
        {"fingerprint": "1", "prompt": "why?", "calls": 3, "completed": 1, "cancelled": 1, "faulted": 1},
        {"fingerprint": "2", "prompt": "when?", "calls": 1, "completed": 0, "cancelled": 0, "faulted": 0},
    ]
    totals = stats.totals()
    assert (totals["calls"], totals["completed"], totals["prompts"]) == (4, 1, 2)
    assert stats.snapshot()["faults"] == {"reset": 1}


def test_the_lateness_of_chunks_is_told_by_its_percentiles():
    """Over all chunks of all requests, within a tenth of a millisecond."""
    stats = Stats()
    connection = stats.connected("h2")
    for request in range(2):
        record = stats.began(connection, "POST", f"/{request}")
        for chunk in range(50):
            record.sent((request * 50 + chunk) / 1000)
    totals = stats.totals()
    assert [totals[f"lag_p{percent}"] for percent in (50, 90, 99)] == pytest.approx([0.049, 0.089, 0.098], abs=2e-4)
    assert (record.chunks, record.lag, totals["worst_lag"]) == (50, 0.099, 0.099)
