"""The sweep: lost workers, due retries, passed deadlines and lost messages, each seen once and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genqueue.ledger import Appended, Claimed, Publication, QueueReading, Swept

from .ledger_desk import PARTITION, TOKEN

if TYPE_CHECKING:
    from .ledger_desk import Desk

NORMAL = "generate.normal"


def test_a_lost_worker_gives_its_flight_back(desk: Desk) -> None:
    """When a lease runs out the token is void, its holder is told, and the flight is published in front of its lane."""
    flight = desk.running()
    desk.link.take_heard()
    assert desk.sweep_at(desk.now + 14_999) == []
    assert desk.sweep_at(desk.now + 1) == [Publication(flight, "generate.normal.again", desk.now)]
    assert desk.heard(desk.inbox) == [f"{flight} {TOKEN}"]
    assert desk.append(flight, 1, {"type": "started"}) == Appended("refused", 0)


def test_a_renewed_lease_is_left_alone(desk: Desk) -> None:
    """The moment of the old lease passes without effect; the flight is looked at again when the new one ends."""
    flight = desk.running()
    desk.now += 10_000
    desk.renew(flight)
    assert desk.sweep_at(desk.now + 10_000) == []
    assert [found.flight for found in desk.sweep_at(desk.now + 5000)] == [flight]


def test_too_many_lost_workers_end_a_flight(desk: Desk) -> None:
    """What takes down one worker after another, also those that run nothing else, fails, with a code."""
    flight = desk.running(deadline_ms=desk.now + 600_000)
    assert desk.lose_all(flight) == [Swept("dead", None, flight)]
    failed = desk.entries(flight)[-1]
    assert (failed["type"], failed["code"], failed["retryable"]) == ("failed", "worker_lost", "1")
    assert failed["message"] == "4 workers were lost while they ran this, 2 of them alone"


def test_a_due_retry_is_published(desk: Desk) -> None:
    """A waiting flight is published when its moment has come, not before."""
    flight = desk.running()
    desk.settle(flight, "retry", delay_ms=700)
    assert desk.sweep_at(desk.now + 699) == []
    (publication,) = desk.sweep_at(desk.now + 1)
    claimed = desk.claim(flight, publication.stamp, "token-2")
    assert isinstance(claimed, Claimed)
    assert claimed.tries == 1


def test_a_passed_deadline_ends_only_its_job(desk: Desk) -> None:
    """The first member's deadline is his alone; the last one's ends the flight and calls its holder off."""
    flight = desk.running(deadline_ms=desk.now + 1000, mark="first")
    desk.submit(deadline_ms=desk.now + 2000)
    desk.link.take_heard()
    desk.sweep_at(desk.now + 1000)
    left = desk.entries(flight)[-1]
    assert (left["type"], left["mark"], left["reason"]) == ("left", "first", "expired")
    assert desk.heard(desk.inbox) == []
    desk.sweep_at(desk.now + 1000)
    assert desk.types(flight) == ["queued", "left", "expired"]
    assert desk.heard(desk.inbox) == [f"{flight} {TOKEN}"]


def test_a_job_that_is_gone_does_not_come_back(desk: Desk) -> None:
    """After an outage longer than the retention a member leaves without a key that would live for ever."""
    job = desk.submission(deadline_ms=desk.now + 1000)
    desk.submit(job)
    desk.submit(deadline_ms=desk.now + 500_000)
    desk.link.command("DEL", desk.keys.job(job.job))
    desk.sweep_at(desk.now + 200_000)
    assert desk.keys.job(job.job) not in desk.times_to_live()


def test_a_message_behind_the_mark_is_backlog(desk: Desk) -> None:
    """What was published after the highest stamp popped still waits its turn, however long."""
    stamp = desk.submit().stamp or 0
    assert desk.sweep_at(desk.now + 30_000, QueueReading(NORMAL, stamp, empty=False)) == []


def test_a_message_before_the_mark_is_lost(desk: Desk) -> None:
    """What was published before the highest stamp popped, by more than the slack, was lost and is published again."""
    flight = desk.submit().flight
    popped = desk.now + 1501
    again = desk.sweep_at(desk.now + 30_000, QueueReading(NORMAL, popped, empty=False))
    assert again == [Publication(flight, "generate.normal.again", desk.now)]
    assert desk.sweep_at(desk.now + 1000, QueueReading(NORMAL, popped, empty=False)) == []


def test_an_empty_queue_has_lost_what_it_does_not_hold(desk: Desk) -> None:
    """What was just popped gets its time; a second message waits for the whole slack, which is 1.5 s here."""
    flight = desk.submit().flight
    queues = [QueueReading(queue, 0, empty=True) for queue in (NORMAL, f"{NORMAL}.again")]
    assert desk.sweep_at(desk.now + 749, *queues) == []
    assert [found.flight for found in desk.sweep_at(desk.now + 1, *queues)] == [flight]
    assert desk.sweep_at(desk.now + 1499, *queues) == []
    assert [found.flight for found in desk.sweep_at(desk.now + 1, *queues)] == [flight]


def test_a_second_sweep_at_once_does_nothing(desk: Desk) -> None:
    """Many workers sweep; within the interval only the first does the work."""
    desk.sweep()
    desk.submit(deadline_ms=desk.now + 100)
    desk.now += 200
    desk.sweep()
    assert desk.link.command("ZCARD", f"{desk.slot}ledger") == 1
    desk.now += 50
    desk.sweep()
    assert desk.link.command("ZCARD", f"{desk.slot}ledger") == 0


def test_a_clock_that_went_back_stops_no_sweep(desk: Desk) -> None:
    """After a failover to a server whose clock is behind, sweeping goes on."""
    desk.sweep()
    desk.now -= 60_000
    flight = desk.submit(deadline_ms=desk.now + 100).flight
    desk.now += 100
    desk.sweep()
    assert desk.types(flight) == ["queued", "expired"]


def test_a_new_partition_had_no_outage(desk: Desk) -> None:
    """The first sweep of all gives no grace: a worker lost right after the start is replaced as soon as any."""
    flight = desk.running()
    desk.now += 20_000
    assert [publication.flight for publication in desk.sweep()] == [flight]


def test_an_outage_forgives_each_lease_once(desk: Desk) -> None:
    """After a gap holders get one more lease to renew; who does not is lost, were there an outage every few seconds."""
    desk.sweep()
    flight = desk.running()
    desk.now += 20_000
    assert desk.sweep() == []
    assert desk.fields(flight)["lease"] == str(desk.now + 15_000)
    desk.now += 15_000
    assert [found.flight for found in desk.sweep()] == [flight]


def test_the_grace_is_one_lease_of_the_lane(desk: Desk) -> None:
    """A high flight whose holder died in the outage waits for a lease of its own lane, not of the slowest."""
    desk.sweep()
    high, normal = desk.running(lane="high", fingerprint=""), desk.running(fingerprint="")
    desk.now += 20_000
    assert desk.sweep() == []
    assert [desk.fields(flight)["lease"] for flight in (high, normal)] == [str(desk.now + 4000), str(desk.now + 15_000)]
    desk.now += 1000
    assert desk.sweep() == []
    assert [found.flight for found in desk.sweep_at(desk.now + 3000)] == [high]
    assert [found.flight for found in desk.sweep_at(desk.now + 11_000)] == [normal]


def test_an_outage_forgives_again_after_a_renewal(desk: Desk) -> None:
    """A holder who renewed after one outage is forgiven in the next."""
    desk.sweep()
    flight = desk.running()
    for _ in range(2):
        desk.now += 20_000
        assert desk.sweep() == []
        desk.now += 1000
        assert desk.renew(flight) == "normal"


def test_a_sweep_looks_at_so_many(desk: Desk) -> None:
    """One sweep has a bound; the next one goes on where it ended."""
    for _ in range(3):
        desk.submit(fingerprint="", deadline_ms=desk.now + 100)
    desk.now += 100
    for expected in (1, 0):
        desk.sweep(limit=2)
        assert desk.link.command("ZCARD", f"{desk.slot}ledger") == expected
        desk.now += 300


def test_what_is_gone_leaves_the_lists(desk: Desk) -> None:
    """A flight whose keys were lost is dropped from the ledger and from what is expected of its queue."""
    flight = desk.submit().flight
    desk.link.command("DEL", desk.keys.flight(flight))
    assert desk.sweep_at(desk.now + 70_000, QueueReading(NORMAL, 0, empty=True)) == []
    assert desk.link.command("EXISTS", f"{desk.slot}ledger", f"{desk.slot}sent:{NORMAL}") == 0


def test_a_sweep_says_why(desk: Desk) -> None:
    """So that workers can count what they recover."""
    lost, due, unheard = (desk.submit(fingerprint="", deadline_ms=desk.now + 600_000) for _ in range(3))
    for flight in (lost, due):
        desk.claim(flight.flight, flight.stamp)
    desk.settle(due.flight, "retry", delay_ms=500)
    desk.link.command("SET", f"{desk.slot}swept", desk.now + 15_000, "PX", 60_000)
    desk.now += 15_000 + 250
    found = desk.look(QueueReading(NORMAL, 0, empty=True))
    assert {one.flight: one.why for one in found} == {lost.flight: "lost", due.flight: "due", unheard.flight: "unheard"}


def test_many_passed_deadlines_are_taken_in_turn(desk: Desk) -> None:
    """One sweep takes off so many jobs and no more, of a flight with thousands half as many, so that others go too."""
    crowd = desk.submit(deadline_ms=desk.now + 100).flight
    members = [part for number in range(20_000) for part in (desk.now + 100, f"{PARTITION}-{number:020x}")]
    desk.link.command("ZADD", desk.keys.members(crowd), *members)
    other = desk.submit(fingerprint="", deadline_ms=desk.now + 100).flight
    desk.link.command("ZADD", f"{desk.slot}ledger", desk.now + 99, crowd)  # the crowd comes first
    desk.now += 100
    for left in (19_951, 19_901):
        desk.look(limit=100)
        assert desk.link.command("ZCARD", desk.keys.members(crowd)) == left
        desk.now += 250
    assert desk.types(other) == ["queued", "expired"]
    assert desk.fields(crowd)["state"] == "queued"
