"""The order of queues, and the gate that kombu asks before every pop."""

from collections import Counter

import pytest
from kombu.utils.scheduling import cycle_by_name

from genqueue.lanes import LANES, QUEUES, SUBMIT_QUEUE, queue_of
from genqueue_worker.slots import FIRST_TURNS, WEIGHTS, Gate, Slots, next_turns, queue_order


def pops(count, waiting, turns=FIRST_TURNS, queues=QUEUES):
    """Return the queues that `count` pops take from, one message of `waiting` each, as BRPOP would."""
    left, taken = Counter(waiting), []
    for _ in range(count):
        order = queue_order(queues, turns)
        queue = next(queue for queue in order if left[queue])
        left[queue] -= 1
        taken.append(queue)
        turns = next_turns(turns, order, queue)
    return taken, turns


def test_the_first_order_is_by_urgency_with_again_before_its_lane():
    """Nothing popped yet: high, normal, low."""
    assert queue_order(QUEUES, FIRST_TURNS) == list(QUEUES)


def test_lanes_that_all_have_work_share_by_weight():
    """In every 12 pops high gets 8, normal 3, low 1, and no lane's turns come in one block."""
    taken, _ = pops(120, dict.fromkeys(map(queue_of, LANES), 1000))
    for start in range(0, 120, 12):
        assert Counter(taken[start : start + 12]) == {queue_of(lane): WEIGHTS[lane] for lane in LANES}
    assert "generate.normal" in taken[:4]


@pytest.mark.parametrize(("lane", "longest"), [("high", 1), ("normal", 4), ("low", 12)])
def test_a_lane_that_wakes_up_waits_a_bounded_number_of_pops(lane, longest):
    """However long it was idle and the others busy, it neither starves nor has a burst saved up."""
    others = {queue_of(other): 10_000 for other in LANES if other != lane}
    for before in range(50):
        _, turns = pops(before, others)
        taken, _ = pops(48, {**others, queue_of(lane): 10_000}, turns)
        assert taken.index(queue_of(lane)) <= longest
        assert taken.count(queue_of(lane)) <= 4 * WEIGHTS[lane] + 1


@pytest.mark.parametrize("busy", [["low"], ["normal", "low"], ["high", "low"]])
def test_the_share_of_idle_lanes_flows_on(busy):
    """Busy lanes share everything, in the proportion of their weights."""
    taken, _ = pops(240, dict.fromkeys(map(queue_of, busy), 1000))
    total = sum(WEIGHTS[lane] for lane in busy)
    for lane in busy:
        assert taken.count(queue_of(lane)) == pytest.approx(240 * WEIGHTS[lane] / total, abs=1)


def test_again_comes_right_before_its_lane_and_counts_as_it():
    """What comes again takes its lane's turns, not more."""
    taken, _ = pops(12, {"generate.low.again": 99, "generate.low": 99, "generate.high": 99})
    assert taken.count("generate.low.again") == 1
    assert taken.count("generate.low") == 0


def test_unknown_queues_come_last_and_missing_lanes_are_left_out():
    """A worker under -Q has its own queues and some of ours."""
    assert queue_order(["mail", "generate.low", "generate.high.again"], FIRST_TURNS) == [
        "generate.high.again",
        "generate.low",
        "mail",
    ]
    assert next_turns(FIRST_TURNS, ["generate.low", "mail"], "mail") == FIRST_TURNS


def test_the_gate_is_shut_while_no_slot_is_free():
    """All queues or none; replies to remote control are no tasks and always pass."""
    slots = Slots(limit=2)
    gate = Gate(slots)
    gate.update([*QUEUES, "mail", "1.reply.celery.pidbox"])
    slots.take()
    assert gate.consume(99) == [*QUEUES, "mail", "1.reply.celery.pidbox"]
    slots.take()
    assert gate.consume(99) == ["1.reply.celery.pidbox"]
    slots.give()
    assert len(gate.consume(99)) == 8


def test_a_worker_that_is_held_fetches_nothing():
    """Whatever the reason and however many slots are free; when the last reason is gone it fetches again."""
    slots = Slots(limit=2)
    gate = Gate(slots)
    gate.update([*QUEUES, "1.reply.celery.pidbox"])
    slots.held |= {"key", "other"}
    slots.held.discard("other")
    assert gate.consume(99) == ["1.reply.celery.pidbox"]
    slots.held.discard("key")
    assert len(gate.consume(99)) == 7


def test_nothing_is_fetched_of_a_closed_lane():
    """It saves up no turns meanwhile."""
    slots = Slots(limit=4)
    slots.closed = frozenset({"high"})
    gate = Gate(slots)
    gate.update(QUEUES)
    assert "generate.normal" in gate.consume(len(QUEUES))
    assert not [queue for queue in gate.consume(len(QUEUES)) if "high" in queue]
    for _ in range(50):
        gate.consume(len(QUEUES))
        gate.rotate("generate.low")
    slots.closed = frozenset()
    waiting = [queue_of(lane) for lane in LANES]
    taken = [gate.rotate(next(queue for queue in gate.consume(len(QUEUES)) if queue in waiting)) for _ in range(12)]
    assert taken.count("generate.high") == WEIGHTS["high"]


def test_requests_with_a_priority_are_popped_too():
    """Kombu's clients put them beside the queue; what is popped there counts for the queue."""
    gate = Gate(Slots(limit=4))
    gate.update([SUBMIT_QUEUE, "generate.high"])
    order = gate.consume(2)
    assert order == [SUBMIT_QUEUE, *(f"{SUBMIT_QUEUE}\x06\x16{step}" for step in (3, 6, 9)), "generate.high"]
    for _ in range(3):
        gate.rotate(SUBMIT_QUEUE)
    assert gate.consume(2)[0] == "generate.high"


def test_without_a_limit_the_gate_is_open():
    """In a client or in Flower the same broker options hold nothing back."""
    slots = Slots()
    slots.take()
    assert slots.free


def test_the_gate_counts_what_was_popped():
    """Its order follows the turns; a pop counts for the order it was sent with."""
    gate = Gate(Slots(limit=4))
    gate.update(["generate.high", "generate.normal"])
    for _ in range(2):
        gate.consume(2)
        assert gate.rotate("generate.high") == "generate.high"
    assert gate.consume(2) == ["generate.normal", "generate.high"]


def test_unknown_queues_take_turns_among_themselves():
    """The one just popped goes to the end."""
    gate = Gate(Slots(limit=4))
    gate.update(["mail", "sms", "generate.low"])
    gate.consume(3)
    gate.rotate("mail")
    assert gate.consume(3) == ["generate.low", "sms", "mail"]


def test_the_gate_knows_all_that_the_queue_cycles_of_kombu_know():
    """Kombu finds it by its name and calls no method it lacks."""
    stock = {name for name in dir(cycle_by_name("priority")) if not name.startswith("_")}
    assert stock <= set(dir(cycle_by_name("genqueue_worker.slots:Gate")))


def test_requests_to_admit_take_half_the_pops_at_most():
    """They come first, so that no backlog holds them up, and hold their slots for some milliseconds only."""
    taken, _ = pops(48, {SUBMIT_QUEUE: 999, **dict.fromkeys(map(queue_of, LANES), 999)}, queues=(*QUEUES, SUBMIT_QUEUE))
    assert taken[0] == SUBMIT_QUEUE
    assert Counter(taken) == {SUBMIT_QUEUE: 24, **{queue_of(lane): 2 * WEIGHTS[lane] for lane in LANES}}


def test_requests_that_wait_do_not_take_every_slot():
    """While a tenth of the slots wait to be admitted, no more requests are fetched, but lanes are."""
    slots = Slots(20)
    gate = Gate(slots)
    gate.update([*QUEUES, SUBMIT_QUEUE])
    for waiting, fetched in ((1, True), (2, False), (0, True)):
        slots.waiting = waiting
        order = gate.consume(len(QUEUES) + 1)
        assert set(QUEUES) <= set(order)
        assert (SUBMIT_QUEUE in order) is fetched
