"""Erasing a job: nothing of it stays, whatever its state, and nothing of others is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genqueue.ledger import Appended, Departed, QueueReading, Refusal

from .ledger_desk import TOKEN

if TYPE_CHECKING:
    from .ledger_desk import Desk

DELTA = {"type": "delta", "text": "words of the answer"}
REPLAY = [{"type": "delta", "text": "words of the answer"}]
WHOM = '{"url":"https://example.com/done"}'


def bring(desk: Desk, state: str, job) -> str:
    """Bring a job to a state and return its flight."""
    if state == "queued":
        return desk.submit(job).flight
    flight = desk.running(job)
    desk.append(flight, 1, DELTA)
    match state:
        case "waiting":
            desk.settle(flight, "retry", first=2, delay_ms=1000)
        case "handed back":
            desk.settle(flight, "interrupted", first=2)
        case "completed":
            desk.settle(flight, first=2, result='{"text":"words"}', replay=REPLAY)
        case "failed":
            desk.settle(flight, "failed", first=2)
        case "cancelled":
            desk.leave(job.job)
    return flight


STATES = ["queued", "running", "waiting", "handed back", "completed", "failed", "cancelled"]


@pytest.mark.parametrize("state", STATES)
def test_nothing_of_it_stays(desk: Desk, state) -> None:
    """Not its key, its prompt, its words, its flight, its end, or the answer it paid for."""
    job = desk.submission(on_done=WHOM, request='{"prompt":"the prompt"}', tenant="tenant-1")
    flight = bring(desk, state, job)
    assert desk.purge(job.job) == "erased"
    names = [job.job, flight, "the prompt", "words", "tenant-1"]
    assert desk.traces(*names) == []
    calls, desk.calls = desk.calls, []
    for call in calls:
        if call.script.name != "submit":
            desk.link.run(call)
    desk.sweep_at(desk.now + 30_000, QueueReading("generate.normal", desk.now, empty=True))
    assert desk.traces(*names) == []
    assert desk.purge(job.job) == "gone"


def test_its_worker_is_called_off_and_refused(desk: Desk) -> None:
    """Whoever runs it hears so, and writes nothing more."""
    job = desk.submission()
    flight = desk.running(job)
    desk.link.take_heard()
    bell = desk.keys.bell(flight)
    desk.purge(job.job)
    heard = desk.link.take_heard()
    assert (desk.inbox.encode(), f"{flight} {TOKEN}".encode()) in heard
    assert any(channel.decode() == bell and b"cancelled" in payload for channel, payload in heard)
    assert desk.append(flight, 1, DELTA) == Appended("refused", 0)
    assert desk.renew(flight) is None
    assert desk.settle(flight, replay=REPLAY).status == "gone"
    assert desk.claim(flight, desk.now + 1, "token-2") == Refusal("gone")
    assert desk.submit().status == "new"


@pytest.mark.parametrize("ended", [False, True])
def test_a_shared_flight_stays(desk: Desk, ended) -> None:
    """Its other members go on, or keep their answer; the erased one's reader gets `left`."""
    job = desk.submission(mark="mine", on_done=WHOM, traceparent="trace-1")
    other = desk.submission(on_done=WHOM)
    flight = desk.running(job)
    assert desk.submit(other).status == "joined"
    if ended:
        desk.settle(flight, result="{}", replay=REPLAY)
    assert desk.purge(job.job) == "shared"
    assert desk.traces(job.job, "trace-1") == []
    if not ended:
        left = desk.entries(flight)[-1]
        assert (left["type"], left["mark"], left["reason"]) == ("left", "mine", "cancelled")
        assert desk.settle(flight, result="{}", replay=REPLAY).status == "succeeded"
    assert desk.leave(other.job) == Departed("done", state="succeeded")
    assert [entry["job"] for entry in desk.finished()] == [other.job]
    assert desk.due() == [other.job]
    assert desk.link.command("EXISTS", f"{desk.slot}cache:f") == 1
    assert desk.purge(other.job) == "erased"
    assert desk.traces(other.job, flight) == []


def test_who_left_before_takes_nothing_along(desk: Desk) -> None:
    """A flight that went on without a job stays when that job is erased."""
    job, other = desk.submission(mark="mine"), desk.submission()
    flight = desk.running(job)
    desk.submit(other)
    desk.leave(job.job)
    desk.leave(other.job)
    assert desk.purge(job.job) == "shared"
    assert desk.types(flight).count("left") == 1
    assert desk.leave(other.job) == Departed("already", reason="cancelled")
    assert desk.purge(other.job) == "erased"


def test_an_answer_others_paid_for_stays(desk: Desk) -> None:
    """A job answered from the cache takes its own flight along, and no more."""
    paid, given = desk.submission(), desk.submission()
    desk.settle(desk.running(paid), result="{}", replay=REPLAY)
    assert desk.submit(given).status == "cached"
    assert desk.purge(given.job) == "erased"
    assert desk.traces(given.job, given.flight) == []
    assert desk.link.command("EXISTS", f"{desk.slot}cache:f") == 1
    desk.link.command("DEL", desk.keys.flight(paid.flight))
    assert desk.purge(paid.job) == "erased"
    assert desk.link.command("EXISTS", f"{desk.slot}cache:f") == 0


def test_a_purge_that_is_cut_off_can_be_repeated(desk: Desk) -> None:
    """The script twice is the script once; a delivery that was under way finds nothing to report."""
    job, other = desk.submission(mark="mine", on_done=WHOM), desk.submission()
    flight = desk.running(job)
    desk.submit(other)
    desk.purge(job.job)
    before = desk.entries(flight), desk.fields(flight)
    desk.link.run(desk.calls[-1])
    assert (desk.entries(flight), desk.fields(flight)) == before
    desk.leave(other.job)
    last = desk.submission(fingerprint="", on_done=WHOM)
    desk.settle(desk.running(last))
    (taken,) = desk.collect(last.job)
    desk.purge(last.job)
    assert not desk.delivered(taken, "failed", 5000)
    assert desk.traces(last.job) == []
