"""The ends of jobs: each noted once, and told until somebody says that it was heard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from genqueue.ledger import Refusal

from .test_ledger_scripts import finish_with_answer

if TYPE_CHECKING:
    from .ledger_desk import Desk

WHOM = '{"url":"https://example.com/done"}'
DAY_MS = 24 * 3600 * 1000


def states(desk: Desk) -> dict[str, str]:
    """Return how jobs ended, by the finished stream; fails when one is there twice."""
    entries = desk.finished()
    found = {entry["job"]: entry["state"] for entry in entries}
    assert len(found) == len(entries)
    return found


def test_every_way_to_end_is_noted_once(desk: Desk) -> None:
    """Settled, left, last to leave, expired, lost, cached: one entry each, in the terminal event's word."""
    expected = {}

    def submission(state: str, **fields):
        job = desk.submission(on_done=WHOM, **fields)
        expected[job.job] = state
        return job

    settled = desk.running(submission("completed", fingerprint="a"))
    desk.submit(submission("completed", fingerprint="a"))
    early = submission("cancelled", fingerprint="a")
    desk.submit(early)
    desk.leave(early.job)
    desk.settle(settled, replay=[])
    desk.submit(submission("completed", fingerprint="a"))
    desk.settle(desk.running(submission("failed", fingerprint="b")), "failed")
    last = submission("cancelled", fingerprint="c")
    desk.submit(last)
    desk.leave(last.job)
    desk.submit(submission("expired", fingerprint="d", deadline_ms=desk.now + 1000))
    lost = submission("failed", fingerprint="e", deadline_ms=desk.now + 600_000)
    desk.running(lost)
    desk.sweep_at(desk.now + 1000)
    desk.lose_all(lost.flight)
    assert states(desk) == expected
    told = desk.collect()
    assert {completion.job: completion.state for completion in told} == expected
    for call in list(desk.calls):
        desk.link.run(call)
    assert states(desk) == expected


def test_an_entry_says_whose_end_it_is(desk: Desk) -> None:
    """A consumer group learns job, flight, state, tenant and lane."""
    job = desk.submission(tenant="acme", lane="low")
    desk.settle(desk.running(job))
    assert desk.finished() == [
        {"v": "1", "job": job.job, "flight": job.flight, "state": "completed", "tenant": "acme", "lane": "low"}
    ]


def test_who_told_nobody_waits_for_nothing(desk: Desk) -> None:
    """Only jobs with somebody to tell are in the outbox."""
    desk.settle(desk.running())
    assert desk.due() == []


def test_a_completion_says_what_became_of_the_job(desk: Desk) -> None:
    """All that a receiver is told comes with it."""
    job = desk.submission(on_done=WHOM, traceparent="00-a-b-01")
    flight = desk.running(job)
    desk.now += 70
    desk.settle(flight, result='{"text":"x"}', detail={"finish_reason": "STOP"})
    (taken,) = desk.collect()
    assert (taken.job, taken.flight, taken.tenant, taken.lane) == (job.job, flight, "acme", "normal")
    assert (taken.on_done, taken.traceparent, taken.state) == (WHOM, "00-a-b-01", "completed")
    assert (taken.deadline_ms, taken.done_at_ms, taken.tries) == (job.deadline_ms, desk.now, 0)
    assert (json.loads(taken.ending), taken.result) == ({"finish_reason": "STOP"}, b'{"text":"x"}')


def test_a_long_result_stays(desk: Desk) -> None:
    """What nobody would be told does not travel."""
    desk.settle(desk.running(on_done=WHOM), result="x" * 1001)
    assert [taken.result for taken in desk.collect()] == [b""]


def test_who_takes_a_completion_has_it_for_a_while(desk: Desk) -> None:
    """Two workers do not tell it both; the same wish again gets the same; a worker that dies is replaced."""
    job = desk.submission(on_done=WHOM)
    desk.settle(desk.running(job))
    first = desk.collect()
    assert desk.collect(job.job) == first
    assert desk.collect(job.job, token="taken-2") == []
    desk.now += 30_000
    (second,) = desk.collect(token="taken-2")
    assert desk.collect(job.job) == []
    assert not desk.delivered(first[0], "failed", 5000)
    assert desk.delivered(second, "failed", 5000)


def test_a_failed_delivery_comes_again(desk: Desk) -> None:
    """Later, and counted once however often that is said; waiting is not counted."""
    job = desk.submission(on_done=WHOM)
    desk.settle(desk.running(job))
    (taken,) = desk.collect()
    assert desk.delivered(taken, "failed", 5000)
    assert not desk.delivered(taken, "failed", 5000)
    desk.now += 4999
    assert desk.due() == []
    desk.now += 1
    (again,) = desk.collect(token="taken-2")
    assert again.tries == 1
    assert desk.delivered(again, "waits", 1000)
    desk.now += 1000
    (last,) = desk.collect(token="taken-3")
    assert last.tries == 1


@pytest.mark.parametrize("delivery", ["delivered", "dropped"])
def test_a_delivered_completion_is_gone(desk: Desk, delivery) -> None:
    """And what was only kept for it."""
    job = desk.submission(on_done=WHOM)
    desk.settle(desk.running(job))
    (taken,) = desk.collect()
    assert desk.delivered(taken, delivery)
    assert not desk.delivered(taken, delivery)
    assert not desk.delivered(taken, "failed", 5000)
    assert desk.collect(job.job, token="taken-2") == []
    assert desk.link.command("EXISTS", f"{desk.slot}outbox") == 0
    assert desk.link.command("HGET", desk.keys.job(job.job), "on_done") is None


def test_a_late_delivery_counts(desk: Desk) -> None:
    """A worker that was thought dead and did deliver ends it for the one that took it since."""
    job = desk.submission(on_done=WHOM)
    desk.settle(desk.running(job))
    (slow,) = desk.collect()
    desk.now += 30_000
    (quick,) = desk.collect(token="taken-2")
    assert desk.delivered(slow, "delivered")
    assert not desk.delivered(quick, "failed", 5000)
    assert desk.due() == []


def test_what_is_to_be_told_lives_a_day(desk: Desk) -> None:
    """However short results are kept, the job is known until nobody tries any more."""
    job = desk.submission(on_done=WHOM)
    desk.settle(desk.running(job))
    left = desk.times_to_live()
    assert left[desk.keys.job(job.job)] > DAY_MS
    assert left[f"{desk.slot}outbox"] > DAY_MS
    assert left[f"{desk.slot}finished"] > DAY_MS
    desk.link.command("DEL", desk.keys.job(job.job))
    assert desk.collect(job.job) == []
    assert desk.due() == []


@pytest.mark.parametrize(
    ("outcome", "stores", "kept"),
    [
        ("failed", ["request"], True),
        ("failed", ["none"], False),
        ("failed", ["request", "none"], False),
        ("failed", ["none", "request"], False),
        ("succeeded", ["request"], False),
        ("cancelled", ["request"], False),
    ],
)
def test_a_failed_flight_keeps_its_prompt_unless_told_otherwise(desk: Desk, outcome, stores, kept) -> None:
    """For its own time to live; one member that wants nothing stored decides for all."""
    policy = {"policy": desk.submission().policy.__class__(3, 2, 20_000, 50_000, 30_000, 500_000)}
    jobs = [desk.submission(store=store, **policy) for store in stores]
    flight = desk.running(jobs[0])
    for job in jobs[1:]:
        assert desk.submit(job).status == "joined"
    desk.settle(flight, outcome)
    assert ("request" in desk.fields(flight)) == kept
    left = desk.times_to_live()
    if kept:
        assert 490_000 < left[desk.keys.flight(flight)] <= 500_000
        assert left[desk.keys.job(jobs[0].job)] > 490_000
    else:
        assert left[desk.keys.flight(flight)] <= 50_000


def test_a_lost_flight_keeps_its_prompt_as_well(desk: Desk) -> None:
    """What failed without a word of the provider is kept like any other failure."""
    flight = desk.running(deadline_ms=desk.now + 600_000)
    desk.lose_all(flight)
    assert desk.fields(flight)["state"] == "failed"
    assert desk.fields(flight)["request"] == '{"v":1}'


def test_the_cache_knows_who_paid(desk: Desk) -> None:
    """So that an answer can be erased with those it was given to."""
    flight = finish_with_answer(desk)
    found = desk.link.command("HMGET", f"{desk.slot}cache:f", "tenant", "flight")
    assert found == [b"acme", flight.encode()]
    assert desk.claim(flight, desk.now) == Refusal("done")
