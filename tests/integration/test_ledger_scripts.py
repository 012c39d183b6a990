"""Each command of the ledger alone: what it answers, what it writes, and that making it twice is making it once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from genqueue.ledger import Appended, Claimed, Departed, Refusal, Settled, Submitted, mark, parse_marks

from .ledger_desk import PARTITION, TOKEN

if TYPE_CHECKING:
    from .ledger_desk import Desk

STARTED = {"type": "started", "route": "r", "model": "m"}
HELLO = {"type": "delta", "text": "hello"}
WORLD = {"type": "delta", "text": " wörld"}


def test_submit_starts_a_flight(desk: Desk) -> None:
    """A new question gets a flight whose stream begins with `queued`, to be published on the lane's queue."""
    job = desk.submission(lane="low")
    assert desk.submit(job) == Submitted("new", job.flight, "generate.low", desk.now)
    first = {"type": "queued", "deadline": str(job.deadline_ms), "v": "1", "attempt": "0", "n": "0"}
    assert desk.entries(job.flight) == [first]


def test_submit_again_answers_the_same_while_queued(desk: Desk) -> None:
    """A replayed submit has the message published again, until somebody claimed it."""
    job = desk.submission()
    reply = desk.submit(job)
    desk.now += 5
    assert desk.submit(job) == Submitted("dup", job.flight, "generate.normal", reply.stamp)
    desk.claim(job.flight, reply.stamp)
    assert desk.submit(job) == Submitted("dup", job.flight, None, None)
    assert desk.types(job.flight) == ["queued"]


def test_submit_refuses_a_past_deadline(desk: Desk) -> None:
    """A job nobody wants any more leaves no key behind."""
    assert desk.submit(deadline_ms=desk.now) == Submitted("late", "", None, None)
    assert not desk.times_to_live()


def test_submit_joins_the_flight_of_the_same_question(desk: Desk) -> None:
    """An equal question joins; the flight then lives as long as its last member wants."""
    first = desk.submit(deadline_ms=desk.now + 10_000)
    second = desk.submission(deadline_ms=desk.now + 90_000)
    assert desk.submit(second) == Submitted("joined", first.flight, None, None)
    assert desk.fields(first.flight)["deadline"] == str(second.deadline_ms)
    assert desk.times_to_live()[desk.keys.events(first.flight)] > 90_000


def test_submit_shares_nothing_without_fingerprint(desk: Desk) -> None:
    """Jobs without a fingerprint fly alone."""
    assert [desk.submit(fingerprint="").status for _ in range(2)] == ["new", "new"]


def test_a_join_lifts_what_is_queued(desk: Desk) -> None:
    """A more urgent member brings a queued flight to its lane, and only one of the two messages starts it."""
    first = desk.submit(lane="low")
    second = desk.submit(lane="high")
    assert (second.status, second.queue) == ("joined", "generate.high.again")
    claimed = desk.claim(first.flight, second.stamp)
    assert isinstance(claimed, Claimed)
    assert claimed.lane == "high"
    assert desk.claim(first.flight, first.stamp, "token-2") == Refusal("leased")


def test_a_join_leaves_a_standard_run_alone(desk: Desk) -> None:
    """A running flight keeps its holder, who learns the new lane when he renews."""
    flight = desk.running(lane="normal")
    assert desk.submit(lane="high") == Submitted("joined", flight, None, None)
    assert desk.renew(flight) == "high"


def test_a_join_lifts_a_cheap_run_that_shows_nothing(desk: Desk) -> None:
    """A low run without text is taken from its holder, who is told and can write no more."""
    flight = desk.running(lane="low")
    desk.append(flight, 1, STARTED)
    desk.link.take_heard()
    assert desk.submit(lane="high").queue == "generate.high.again"
    assert desk.heard(desk.inbox) == [f"{flight} {TOKEN}"]
    assert desk.append(flight, 2, HELLO) == Appended("refused", 0)


def test_a_join_leaves_a_cheap_run_that_shows_text(desk: Desk) -> None:
    """A low run that wrote a delta goes on."""
    flight = desk.running(lane="low")
    desk.append(flight, 1, STARTED, HELLO)
    assert desk.submit(lane="high") == Submitted("joined", flight, None, None)
    assert desk.append(flight, 3, WORLD) == Appended("ok", 3)


def finish_with_answer(desk: Desk, **fields: Any) -> str:
    """Return a flight that ended with "hello wörld" and may be answered again."""
    flight = desk.running(**fields)
    desk.append(flight, 1, STARTED, HELLO, WORLD)
    detail = {"finish_reason": "STOP", "source": "live", "timings": "{}", "cost": "7"}
    replay = [{"type": "delta", "text": "hello wörld"}]
    settled = desk.settle(flight, first=4, result='{"text":"hello wörld"}', replay=replay, detail=detail)
    assert settled.status == "succeeded"
    return flight


def test_submit_answers_from_the_cache(desk: Desk) -> None:
    """The same question later gets a finished flight: the stream, the result, and no part of the paid run's bill."""
    finish_with_answer(desk)
    job = desk.submission(deadline_ms=desk.now + 1000)
    assert desk.submit(job) == Submitted("cached", job.flight, None, None)
    _, delta, completed = desk.entries(job.flight)
    assert (delta["type"], delta["text"], delta["n"]) == ("delta", "hello wörld", "1")
    assert completed == {
        "type": "completed",
        "source": "cache",
        "finish_reason": "STOP",
        "v": "1",
        "attempt": "0",
        "n": "0",
    }
    assert desk.fields(job.flight)["result"] == '{"text":"hello wörld"}'
    assert desk.leave(job.job) == Departed("done", state="succeeded")


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("refresh", "use", "cached"),
        ("off", "use", "new"),
        ("use", "refresh", "new"),
        ("use", "off", "new"),
    ],
)
def test_cache_modes(desk: Desk, first: str, second: str, status: str) -> None:
    """`refresh` writes the cache without reading it, `off` does neither."""
    finish_with_answer(desk, cache=first)
    assert desk.submit(cache=second).status == status


def test_claim_returns_the_flight(desk: Desk) -> None:
    """A claim returns what the run needs; the same token gets the same again."""
    job = desk.submission(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    reply = desk.submit(job)
    desk.now += 40
    trace = job.traceparent
    expected = Claimed(1, 0, "normal", job.deadline_ms, "acme", b'{"v":1}', desk.now - 40, desk.now, 0, trace)
    assert desk.claim(job.flight, reply.stamp) == expected
    desk.now += 40
    assert desk.claim(job.flight, reply.stamp) == expected


def test_claim_refuses_a_flight_that_is_not_queued(desk: Desk) -> None:
    """Nobody gets a flight that is unknown, held, waiting or ended."""
    assert desk.claim(desk.new_id(), desk.now) == Refusal("gone")
    flight = desk.running()
    assert desk.claim(flight, desk.now + 9, "token-2") == Refusal("leased")
    desk.settle(flight, "retry", delay_ms=1000)
    assert desk.claim(flight, desk.now + 9, "token-2") == Refusal("notyet")
    ended = desk.running(fingerprint="")
    desk.settle(ended)
    assert desk.claim(ended, desk.now + 9, "token-2") == Refusal("done")


def test_claim_refuses_a_message_that_was_used_or_is_late(desk: Desk) -> None:
    """A double of a message that started the flight before starts nothing, nor does one behind the deadline."""
    job = desk.submission()
    stamp = desk.submit(job).stamp
    desk.claim(job.flight, stamp)
    again = desk.settle(job.flight, "interrupted")
    assert desk.claim(job.flight, stamp, "token-2") == Refusal("spent")
    desk.now = job.deadline_ms
    assert desk.claim(job.flight, again.stamp, "token-2") == Refusal("late")


@pytest.mark.parametrize("reason", ["lost", "retry", "interrupted"])
def test_claim_tells_readers_why_the_text_begins_anew(desk: Desk, reason: str) -> None:
    """The next attempt's claim writes `restarted` when the one before had shown something."""
    flight = desk.running()
    desk.append(flight, 1, {"type": "thought", "text": "hm"})
    stamp = end_attempt(desk, flight, reason)
    desk.claim(flight, stamp, "token-2")
    restarted = desk.entries(flight)[-1]
    assert (restarted["type"], restarted["reason"], restarted["attempt"]) == ("restarted", reason, "2")


def test_claim_says_nothing_when_nothing_was_shown(desk: Desk) -> None:
    """An attempt that had only started leaves nothing to discard."""
    flight = desk.running()
    desk.append(flight, 1, STARTED)
    desk.claim(flight, end_attempt(desk, flight, "interrupted"), "token-2")
    assert desk.types(flight) == ["queued", "started"]


def end_attempt(desk: Desk, flight: str, reason: str) -> int | None:
    """End the running attempt for a reason and return the stamp under which the flight is published again."""
    if reason == "interrupted":
        return desk.settle(flight, "interrupted", first=2).stamp
    if reason == "retry":
        desk.settle(flight, "retry", first=2)
    (publication,) = desk.sweep_at(desk.now + 20_000)
    return publication.stamp


def test_append_numbers_skips_and_refuses_gaps(desk: Desk) -> None:
    """Entries carry v, attempt and n; what is written is skipped, what is missing is asked for."""
    flight = desk.running()
    assert desk.append(flight, 1, STARTED, HELLO) == Appended("ok", 2)
    assert desk.append(flight, 2, HELLO, WORLD) == Appended("ok", 3)
    assert desk.append(flight, 5, HELLO) == Appended("gap", 3)
    assert desk.append(flight, 4, HELLO, token="token-2") == Appended("refused", 0)
    written = desk.entries(flight)[1:]
    assert [(entry["type"], entry["n"]) for entry in written] == [("started", "1"), ("delta", "2"), ("delta", "3")]
    assert written[2] == {"type": "delta", "v": "1", "attempt": "1", "n": "3", "text": " wörld"}


def test_append_brings_no_expired_stream_back(desk: Desk) -> None:
    """Where the stream is gone, nothing is written: it would never expire."""
    flight = desk.running()
    desk.link.command("DEL", desk.keys.events(flight))
    assert desk.append(flight, 1, STARTED) == Appended("gone", 0)
    assert desk.entries(flight) == []


def test_ring_names_the_id_before(desk: Desk) -> None:
    """Each entry rings with the id before it, its own and its fields; over 4 KB without the fields."""
    flight = desk.running()
    desk.link.take_heard()
    long = {"type": "delta", "text": "x" * 4100}
    desk.append(flight, 1, STARTED, long)
    small, large = map(json.loads, desk.heard(desk.keys.bell(flight)))
    found = [entry.decode() for entry, _ in desk.link.command("XRANGE", desk.keys.events(flight), "-", "+")]
    fields = ["type", "started", "v", "1", "attempt", "1", "n", "1", "route", "r", "model", "m"]
    assert small == [found[0], found[1], fields]
    assert large == [found[1], found[2], False]


def test_renew_is_for_the_holder(desk: Desk) -> None:
    """A renewal moves the lease of the token that holds; any other is refused."""
    flight = desk.running()
    desk.now += 1000
    assert desk.renew(flight) == "normal"
    assert desk.fields(flight)["lease"] == str(desk.now + 15_000)
    assert desk.renew(flight, token="token-2") is None


def test_renew_with_a_shorter_lease_is_looked_at_sooner(desk: Desk) -> None:
    """When a join made the flight urgent, its loss is seen after the short lease."""
    flight = desk.running()
    desk.renew(flight, lease_ms=4000)
    assert desk.link.command("ZSCORE", f"{desk.slot}ledger", flight) == desk.now + 4000


@pytest.mark.parametrize(
    ("outcome", "kind"), [("succeeded", "completed"), ("failed", "failed"), ("cancelled", "cancelled")]
)
def test_settle_ends_a_flight(desk: Desk, outcome: Literal["succeeded", "failed", "cancelled"], kind: str) -> None:
    """The last entries and the terminal event are written; a replay learns the state and writes nothing."""
    job = desk.submission()
    flight = desk.running(job)
    settled = desk.settle(flight, outcome, entries=[STARTED, HELLO], detail={"code": "X"}, result="{}")
    assert settled == Settled(outcome, None, None, None, None)
    assert desk.settle(flight, outcome) == Settled("already", outcome, None, None, None)
    assert desk.types(flight) == ["queued", "started", "delta", kind]
    assert desk.entries(flight)[-1]["code"] == "X"
    fields = desk.fields(flight)
    assert json.loads(fields["ending"]) == {"code": "X"}
    assert {"token", "request", "until"} & set(fields) == ({"request"} if outcome == "failed" else set())
    assert desk.leave(job.job) == Departed("done", state=outcome)


def test_settle_asks_for_missing_entries(desk: Desk) -> None:
    """A settlement whose entries do not follow the last one written settles nothing."""
    flight = desk.running()
    assert desk.settle(flight, first=2, entries=[HELLO]) == Settled("gap", None, 0, None, None)
    assert desk.settle(flight, first=1, entries=[STARTED, HELLO]).status == "succeeded"


def test_settle_refuses_strangers(desk: Desk) -> None:
    """A token that does not hold the flight ends nothing."""
    flight = desk.running()
    assert desk.settle(flight, token="token-2").status == "refused"
    assert desk.settle(desk.new_id()).status == "gone"


def test_settle_hands_back(desk: Desk) -> None:
    """An interrupted attempt is no try: the flight is queued in front of its lane at once."""
    flight = desk.running()
    settled = desk.settle(flight, "interrupted")
    assert (settled.status, settled.queue) == ("queued", "generate.normal.again")
    assert desk.settle(flight, "interrupted") == Settled("already", "queued", None, settled.queue, settled.stamp)
    claimed = desk.claim(flight, settled.stamp, "token-2")
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt, claimed.tries) == (2, 0)


def test_what_is_handed_back_may_be_put_off(desk: Desk) -> None:
    """Nobody takes it before its moment, when the sweep queues it; it is no try."""
    flight = desk.running()
    assert desk.settle(flight, "interrupted", delay_ms=2000) == Settled("waiting", None, None, None, None)
    event = desk.entries(flight)[-1]
    assert (event["type"], event["reason"], event["until"]) == ("waiting", "interrupted", str(desk.now + 2000))
    assert desk.sweep_at(desk.now + 1999) == []
    (publication,) = desk.sweep_at(desk.now + 1)
    claimed = desk.claim(flight, publication.stamp, "token-2")
    assert isinstance(claimed, Claimed)
    assert (claimed.attempt, claimed.tries) == (2, 0)


def test_settle_retries_until_the_tries_are_used_up(desk: Desk) -> None:
    """A retry waits, saying until when and why; the last one fails with what the provider said."""
    flight = desk.running()
    detail = {"code": "UNAVAILABLE", "message": "busy", "retryable": "1"}
    for number in (2, 3):
        settled = desk.settle(flight, "retry", f"token-{number - 1}", delay_ms=500, detail=detail)
        assert settled == Settled("waiting", None, None, None, None)
        waiting = desk.entries(flight)[-1]
        assert (waiting["reason"], waiting["until"], waiting["code"]) == ("retry", str(desk.now + 500), "UNAVAILABLE")
        (publication,) = desk.sweep_at(desk.now + 500)
        desk.claim(flight, publication.stamp, f"token-{number}")
    assert desk.settle(flight, "retry", "token-3", delay_ms=500, detail=detail).status == "failed"
    assert desk.entries(flight)[-1]["message"] == "busy"


def test_leave_tells_only_the_one_who_leaves(desk: Desk) -> None:
    """A member's end is `left` with his mark; the others read on."""
    job = desk.submission(mark="mine")
    desk.submit(job)
    flight = desk.submit().flight
    assert desk.leave(job.job) == Departed("left")
    assert desk.leave(job.job) == Departed("already", reason="cancelled")
    left = desk.entries(flight)[-1]
    assert (left["type"], left["mark"], left["reason"]) == ("left", "mine", "cancelled")


def test_the_last_to_leave_ends_the_flight(desk: Desk) -> None:
    """When nobody wants the answer the stream ends, and the holder is called off."""
    job = desk.submission()
    reply = desk.submit(job)
    desk.claim(reply.flight, reply.stamp)
    desk.link.take_heard()
    assert desk.leave(job.job) == Departed("ended", inbox=desk.inbox, token=TOKEN)
    assert desk.heard(desk.inbox) == [f"{reply.flight} {TOKEN}"]
    assert desk.types(reply.flight) == ["queued", "cancelled"]
    assert desk.append(reply.flight, 1, STARTED) == Appended("refused", 0)


def test_leave_of_an_unknown_job(desk: Desk) -> None:
    """A job that never was is gone."""
    assert desk.leave(desk.new_id()) == Departed("gone")


def test_mark_keeps_the_highest(desk: Desk) -> None:
    """A mark never goes back, and expires only when nobody works for days."""
    for popped in ({"a": 5, "b": 9}, {"a": 3, "b": 10}):
        desk.run(mark(desk.keys, popped))
    found = desk.link.command("HGETALL", desk.keys.marks())
    assert parse_marks(found) == {"a": 5, "b": 10}
    assert desk.link.command("PTTL", desk.keys.marks()) > 6 * 24 * 3600 * 1000


def test_every_call_twice_is_once(desk: Desk) -> None:
    """Replaying all calls of a whole life, each right away and once more at the end, changes no stream and no key."""
    flight = finish_with_answer(desk)
    job = desk.submission()
    desk.submit(job)
    desk.leave(job.job)
    before = desk.entries(flight), desk.fields(flight), sorted(desk.times_to_live())
    for call in list(desk.calls):
        desk.link.run(call)
        desk.link.run(call)
    assert (desk.entries(flight), desk.fields(flight), sorted(desk.times_to_live())) == before


def test_every_key_expires(desk: Desk) -> None:
    """Queued, running, waiting, joined, left, ended, cached: nothing lives for ever, nothing less than it is needed."""
    finish_with_answer(desk)
    desk.settle(desk.running(fingerprint="g"), "retry", delay_ms=1000)
    queued = desk.submit(fingerprint="h", deadline_ms=desk.now + 70_000)
    desk.leave(desk.submission(fingerprint="h").job)
    desk.submit(fingerprint="h", lane="high", deadline_ms=desk.now + 80_000)
    desk.sweep()
    left = desk.times_to_live()
    assert min(left.values()) > 0, left
    for key in (desk.keys.flight(queued.flight), desk.keys.events(queued.flight), f"{desk.slot}flying:h"):
        assert 129_000 < left[key] <= 130_000
    assert left[f"{desk.slot}ledger"] > 129_000
    assert left[f"{desk.slot}cache:f"] <= 30_000


def test_after_its_end_a_flight_is_kept_as_its_policy_says(desk: Desk) -> None:
    """The stream goes first; the result stays; the job, which fences late replays, is never shortened."""
    job = desk.submission()
    reply = desk.submit(job)
    desk.claim(job.flight, reply.stamp)
    desk.settle(job.flight)
    left = desk.times_to_live()
    assert 19_000 < left[desk.keys.events(job.flight)] <= 20_000
    assert 49_000 < left[desk.keys.flight(job.flight)] <= 50_000
    assert 109_000 < left[desk.keys.job(job.job)] <= 110_000
    assert f"{desk.slot}flying:f" not in left


def test_every_key_is_in_the_slot(desk: Desk) -> None:
    """Whatever the scripts touch carries the partition's hash tag, as a cluster asks."""
    finish_with_answer(desk)
    desk.sweep()
    assert all(key.startswith(f"{desk.keys.prefix}:{{{PARTITION}}}:") for key in desk.times_to_live())
