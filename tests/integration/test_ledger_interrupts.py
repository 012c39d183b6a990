"""What becomes of an attempt that was cut off: suspects run alone, and members say how a text goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from genqueue.ledger import Claimed, Refusal, Swept

if TYPE_CHECKING:
    from genqueue.ledger import Outcome

    from .ledger_desk import Desk

STARTED = {"type": "started", "route": "r", "model": "m"}
HELLO = {"type": "delta", "text": "hello"}
BUSY = {"code": "UNAVAILABLE", "message": "busy", "retryable": "1"}


def cut_off(desk: Desk, flight: str, token: str = "token-1") -> int:
    """Hand an attempt back; returns the stamp of the next."""
    stamp = desk.settle(flight, "interrupted", token).stamp
    assert stamp is not None
    return stamp


def lose(desk: Desk) -> int:
    """Let the lease of the flight under way run out; returns the stamp of the next attempt."""
    (publication,) = desk.sweep_at(desk.now + 15_000)
    return publication.stamp


def test_a_text_begins_anew_by_default(desk: Desk) -> None:
    """The next attempt discards what was shown."""
    flight = desk.running()
    desk.append(flight, 1, STARTED, HELLO)
    claimed = desk.claim(flight, cut_off(desk, flight), "token-2")
    assert isinstance(claimed, Claimed)
    assert (claimed.resumed, claimed.on_interrupt) == (False, "restart")
    assert desk.types(flight) == ["queued", "started", "delta", "restarted"]


def test_a_text_goes_on_when_asked_for(desk: Desk) -> None:
    """What was shown stays, over any number of attempts, also those that showed nothing; a claim made again says so."""
    flight = desk.running(on_interrupt="continue")
    desk.append(flight, 1, STARTED, HELLO)
    for number in (2, 3):
        stamp = cut_off(desk, flight, f"token-{number - 1}")
        claimed = desk.claim(flight, stamp, f"token-{number}")
        assert isinstance(claimed, Claimed)
        assert (claimed.resumed, claimed.on_interrupt, claimed.attempt) == (True, "continue", number)
        assert desk.append(flight, 1, STARTED, token=f"token-{number}").status == "ok"
        assert desk.claim(flight, stamp, f"token-{number}") == replace(claimed, written=1)
    assert desk.types(flight) == ["queued", "started", "delta", *2 * ["continued", "started"]]
    assert desk.entries(flight)[-2]["reason"] == "interrupted"


def test_what_has_shown_nothing_has_nothing_to_go_on_from(desk: Desk) -> None:
    """Its next attempt is like a first one."""
    flight = desk.running(on_interrupt="continue")
    desk.append(flight, 1, STARTED)
    claimed = desk.claim(flight, cut_off(desk, flight), "token-2")
    assert isinstance(claimed, Claimed)
    assert not claimed.resumed
    assert desk.types(flight) == ["queued", "started"]


@pytest.mark.parametrize(
    ("outcome", "recorded", "why"), [("retry", "retry", "UNAVAILABLE"), ("interrupted", "interrupted", "handed back")]
)
def test_a_cut_fails_when_asked_for(desk: Desk, outcome: Outcome, recorded: str, why: str) -> None:
    """After the first output there is no other attempt; the failure says why the one there was ended."""
    flight = desk.running(on_interrupt="fail")
    settled = desk.settle(
        flight, outcome, entries=[STARTED, HELLO], detail=BUSY if outcome == "retry" else {}, delay_ms=500
    )
    assert (settled.status, settled.dead, settled.queue) == ("failed", True, None)
    failed = desk.entries(flight)[-1]
    assert (failed["code"], failed["retryable"]) == ("interrupted", "1")
    assert why in failed["message"]
    assert [attempt["outcome"] for attempt in desk.history(flight)] == [recorded]


def test_a_lost_worker_fails_what_was_shown(desk: Desk) -> None:
    """As any other cut; the sweep says that it made a dead letter."""
    flight = desk.running(on_interrupt="fail")
    desk.append(flight, 1, STARTED, HELLO)
    desk.sweep()
    desk.link.command("SET", f"{desk.slot}swept", desk.now + 14_000, "PX", 60_000)
    desk.now += 15_000
    assert desk.look() == [Swept("dead", None, flight)]
    assert desk.entries(flight)[-1]["code"] == "interrupted"
    assert desk.heard(desk.inbox)


def test_a_cut_before_the_first_output_is_tried_again(desk: Desk) -> None:
    """`fail` is about text that somebody has seen."""
    flight = desk.running(on_interrupt="fail")
    desk.append(flight, 1, STARTED)
    assert desk.settle(flight, "retry", first=2, detail=BUSY).status == "waiting"


@pytest.mark.parametrize(("first", "second"), [("continue", "restart"), ("restart", "continue"), ("fail", "continue")])
def test_members_that_differ_begin_anew(desk: Desk, first: str, second: str) -> None:
    """What one did not ask for is not done to it; a text that begins anew is right for all."""
    flight = desk.running(on_interrupt=first)
    desk.append(flight, 1, STARTED, HELLO)
    assert desk.submit(on_interrupt=second).status == "joined"
    claimed = desk.claim(flight, cut_off(desk, flight), "token-2")
    assert isinstance(claimed, Claimed)
    assert (claimed.resumed, claimed.on_interrupt) == (False, "restart")


def test_a_suspect_runs_alone(desk: Desk) -> None:
    """After two losses beside others: a claim that is not alone changes nothing, and the same message still counts."""
    flight = desk.running(deadline_ms=desk.now + 600_000)
    desk.claim(flight, lose(desk), "token-2")
    stamp = lose(desk)
    before = desk.fields(flight)
    assert desk.claim(flight, stamp, "token-3") == Refusal("suspect")
    assert desk.fields(flight) == before
    assert isinstance(desk.claim(flight, stamp, "token-3", alone=True), Claimed)
    assert isinstance(desk.claim(flight, stamp, "token-3"), Claimed)  # the holder's again, however it asks
    stamp = cut_off(desk, flight, "token-3")
    assert desk.claim(flight, stamp, "token-4") == Refusal("suspect")
    assert desk.settle(flight, token="token-3").status == "already"


def test_a_suspect_that_waits_expires(desk: Desk) -> None:
    """Whoever asks: with no worker that would run it alone, a reader ends it at its deadline, not before."""
    job = desk.submission(deadline_ms=desk.now + 40_000)
    flight = desk.running(job)
    desk.claim(flight, lose(desk), "token-2")
    lose(desk)
    early = desk.leave(job.job, "expired")
    assert (early.status, early.left_ms) == ("early", 10_000)
    desk.now += 10_000
    assert desk.leave(job.job, "expired").status == "ended"
    assert desk.leave(job.job, "expired").reason == "expired"
    assert desk.types(flight)[-1] == "expired"


def test_a_lifted_suspect_stays_one(desk: Desk) -> None:
    """A more urgent member changes the queue, not what is known of the flight."""
    flight = desk.running(lane="low", deadline_ms=desk.now + 600_000)
    desk.claim(flight, lose(desk), "token-2")
    lose(desk)
    lifted = desk.submit(lane="high", deadline_ms=desk.now + 600_000)
    assert lifted.queue == "generate.high.again"
    assert desk.claim(flight, lifted.stamp, "token-3") == Refusal("suspect")


def test_losses_alone_are_few(desk: Desk) -> None:
    """How many is the policy's; those beside others never end a flight by themselves."""
    flight = desk.running(deadline_ms=desk.now + 600_000)
    desk.lose_all(flight)
    fields = desk.fields(flight)
    assert (fields["losses"], fields["lone_losses"]) == ("4", "2")
    assert [attempt["outcome"] for attempt in desk.history(flight)] == ["lost"] * 4


def test_a_revoke_ends_it_for_all(desk: Desk) -> None:
    """One terminal event, whoever shares it, and the holder is called off."""
    first, second = desk.submission(), desk.submission()
    flight = desk.running(first)
    desk.submit(second)
    desk.link.take_heard()
    revoked = desk.revoke(flight)
    assert (revoked.status, revoked.inbox, revoked.token) == ("ended", desk.inbox, "token-1")
    assert desk.heard(desk.inbox) == [f"{flight} token-1"]
    assert desk.types(flight) == ["queued", "cancelled"]
    assert [desk.leave(job.job).reason for job in (first, second)] == ["cancelled", "cancelled"]
    assert (desk.revoke(flight).state, desk.revoke(desk.new_id()).status) == ("cancelled", "gone")
