"""Fetching: nothing beyond free slots, lanes by weight, nobody waits for a poll."""

import statistics
from collections import Counter


def test_nothing_is_fetched_beyond_free_slots(fleet):
    """Of nine tasks four are taken by four slots, and each slot that frees takes the next one within milliseconds."""
    fleet.start(concurrency=4)
    keys = {fleet.send("hold", f"go:{number}"): f"go:{number}" for number in range(9)}

    def settled(left):
        fleet.until(lambda: fleet.store.llen("generate.normal") <= left, "the next is taken")
        fleet.until(lambda: not fleet.store.hlen("unacked"), "it is acknowledged")
        fleet.until(lambda: sum("started" in fleet.notes(task) for task in keys) == 9 - left, "it runs")
        assert fleet.store.llen("generate.normal") == left

    settled(5)
    ended = set()
    for left in range(4, -1, -1):
        task = next(task for task in keys if "started" in fleet.notes(task) and task not in ended)
        ended.add(task)
        fleet.store.set(keys[task], 1)
        settled(left)
    for task, key in keys.items():
        fleet.store.set(key, 1)
        assert fleet.wait_for(task, "succeeded")
    ends = sorted(fleet.events(task)[-1]["timestamp"] for task in keys)
    starts = sorted(fleet.events(task)[0]["timestamp"] for task in keys)
    gaps = [start - end for end, start in zip(ends, starts[4:], strict=False)]
    assert statistics.median(gaps) < 0.2, gaps  # a poll that ran out would take a second


def test_lanes_take_turns_by_weight(fleet):
    """With one slot and work in three lanes, the order of starts is that of the weights."""
    for _ in range(12):
        for lane in ("low", "normal", "high"):
            fleet.send("echo", lane, queue=f"generate.{lane}")
    fleet.start("-Q", "generate.high,generate.normal,generate.low", concurrency=1)
    fleet.until(lambda: [event["type"] for event in fleet.seen].count("task-succeeded") == 36, "all ran")
    names = [event["args"] for event in fleet.seen if event["type"] == "task-received"]
    assert Counter(names[:12]) == {"('high',)": 8, "('normal',)": 3, "('low',)": 1}
