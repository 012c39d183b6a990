"""Dead letters: which flights become one, what is kept of them, and how they are let go of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genqueue import ledger

from .ledger_desk import POLICY

if TYPE_CHECKING:
    from genqueue.ledger import Outcome

    from .ledger_desk import Desk

STARTED = {"type": "started", "route": "r", "model": "m"}
BUSY = {"code": "UNAVAILABLE", "message": "busy", "retryable": "1"}


@pytest.mark.parametrize(
    ("outcome", "detail", "dead"),
    [
        ("failed", {"code": "payload_unreadable", "retryable": "1"}, True),
        ("failed", {"code": "INVALID_ARGUMENT", "retryable": "0"}, False),
        ("failed", {"code": "X"}, False),
        ("succeeded", {"retryable": "1"}, False),
        ("cancelled", {}, False),
    ],
)
def test_what_may_be_tried_again_is_a_dead_letter(
    desk: Desk, outcome: Outcome, detail: dict[str, str], *, dead: bool
) -> None:
    """What the provider refused is not, nor what ended otherwise; only a failure keeps its history."""
    flight = desk.running()
    settled = desk.settle(flight, outcome, detail=detail, result="{}")
    assert settled.dead == dead
    assert desk.dead() == ({flight: desk.now + POLICY.keep_ms} if dead else {})
    assert desk.fields(flight)["ended"] == str(desk.now)
    assert bool(desk.history(flight)) == (outcome == "failed")
    assert not desk.settle(flight, outcome).dead  # a replay learns the state


def test_a_dead_letter_is_kept_as_long_as_it_is_useful(desk: Desk) -> None:
    """As long as what failed is kept; what stores nothing is listed as long as its result would be."""
    policy = ledger.Policy(1, 2, 20_000, 50_000, 30_000, dead_ttl_ms=900_000)
    flights = [desk.running(policy=policy, store=store, fingerprint="") for store in ("request", "none")]
    assert [desk.settle(flight, "retry", detail=BUSY).dead for flight in flights] == [True, True]
    assert desk.dead() == {flights[0]: desk.now + 900_000, flights[1]: desk.now + 50_000}
    assert ["request" in desk.fields(flight) for flight in flights] == [True, False]
    assert desk.times_to_live()[f"{desk.slot}dead"] > 899_000


def test_a_list_loses_what_is_over(desk: Desk) -> None:
    """The next end that makes a dead letter takes off those whose time has passed."""
    desk.settle(desk.running(), "failed", detail=BUSY)
    desk.now += POLICY.keep_ms
    flight = desk.running()
    desk.settle(flight, "failed", detail=BUSY)
    assert list(desk.dead()) == [flight]


def test_a_retry_that_comes_too_late_is_none(desk: Desk) -> None:
    """When it would begin at or after the last member's deadline, the flight fails at once, in the provider's words."""
    job = desk.submission(deadline_ms=desk.now + 30_000)
    flight = desk.running(job)
    desk.submit(deadline_ms=desk.now + 2000)
    assert desk.settle(flight, "retry", delay_ms=29_999, detail=BUSY).status == "waiting"
    (publication,) = desk.sweep_at(desk.now + 29_999)
    desk.claim(flight, publication.stamp, "token-2")
    settled = desk.settle(flight, "retry", "token-2", delay_ms=1, detail=BUSY)
    assert (settled.status, settled.dead) == ("failed", True)
    failed = desk.entries(flight)[-1]
    assert (failed["code"], failed["message"]) == ("UNAVAILABLE", "busy")


def test_a_retry_counts_only_who_is_aboard(desk: Desk) -> None:
    """Somebody who has left wants nothing any more, however late his deadline was."""
    patient = desk.submission(deadline_ms=desk.now + 50_000)
    desk.submit(patient)
    flight = desk.submit(deadline_ms=desk.now + 2000)
    desk.leave(patient.job)
    desk.claim(flight.flight, desk.now)
    assert desk.settle(flight.flight, "retry", delay_ms=2000, detail=BUSY).status == "failed"


def test_a_history_says_how_each_attempt_ended(desk: Desk) -> None:
    """The newest twenty, with what was said, or what that is sealed into; long words are cut between characters."""
    flight = desk.running(deadline_ms=desk.now + 10_000_000)
    for number in range(20):
        settled = desk.settle(flight, "interrupted", f"token-{number + 1}")
        desk.claim(flight, settled.stamp, f"token-{number + 2}")
    detail = {"code": "UNAVAILABLE", "message": "x" + "ü" * 400, "retryable": "1"}
    desk.settle(flight, "retry", "token-21", detail=detail)
    (publication,) = desk.sweep_at(desk.now + 1000)
    desk.claim(flight, publication.stamp, "token-22")
    sealed = {"code": "INTERNAL", "sealed": "c2VhbGVk", "retryable": "1"}
    desk.settle(flight, "failed", "token-22", detail=sealed)
    history = desk.history(flight)
    assert [attempt["attempt"] for attempt in history] == list(range(3, 23))
    assert history[0] == {"attempt": 3, "at": desk.now - 1000, "worker": "worker", "outcome": "interrupted"}
    assert history[-2]["outcome"] == "retry"
    assert history[-2]["message"] == "x" + "ü" * 249
    assert history[-1] == {
        "attempt": 22,
        "at": desk.now,
        "worker": "worker",
        "outcome": "failed",
        "code": "INTERNAL",
        "sealed": "c2VhbGVk",
    }


def test_a_drop_lets_go(desk: Desk) -> None:
    """Of the request and the history; that it failed is known as long as of any other."""
    policy = ledger.Policy(1, 2, 20_000, 50_000, 30_000, dead_ttl_ms=900_000)
    job = desk.submission(policy=policy)
    flight = desk.running(job)
    desk.settle(flight, "failed", detail=BUSY)
    assert desk.drop(flight) == "dropped"
    assert not desk.dead()
    fields = desk.fields(flight)
    assert fields["state"] == "failed"
    assert {"request", "history"}.isdisjoint(fields)
    assert 49_000 < desk.times_to_live()[desk.keys.flight(flight)] <= 50_000
    assert (desk.drop(flight), desk.drop(desk.new_id())) == ("not_dead", "gone")


def test_a_live_flight_is_not_dropped(desk: Desk) -> None:
    """It keeps what it needs."""
    flight = desk.running()
    assert desk.drop(flight) == "not_dead"
    assert "request" in desk.fields(flight)


def test_a_purge_takes_the_dead_letter(desk: Desk) -> None:
    """With its history, and with the note that an answer is kept."""
    job = desk.submission()
    desk.settle(desk.running(job), "failed", detail=BUSY)
    paid = desk.submission(fingerprint="paid")
    desk.settle(desk.running(paid), replay=[], result="{}")
    assert desk.link.command("ZCARD", f"{desk.slot}cached") == 1
    for erased in (job, paid):
        assert desk.purge(erased.job) == "erased"
    assert desk.traces(job.job, job.flight, paid.job, paid.flight, "paid") == []


def test_a_replayed_job_names_the_one_before(desk: Desk) -> None:
    """It is a job like any other; the same id submitted again changes nothing."""
    job = desk.submission(replayed_from="3-00000000000000000001")
    desk.submit(job)
    assert desk.submit(job).status == "dup"
    assert desk.link.command("HGET", desk.keys.job(job.job), "replayed_from") == b"3-00000000000000000001"
