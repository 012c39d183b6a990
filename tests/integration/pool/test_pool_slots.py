"""Fetching: nothing beyond free slots, lanes by weight, nobody waits for a poll."""

import statistics


def test_nothing_is_fetched_beyond_free_slots(fleet):
    """Of nine tasks four are taken by four slots, and each slot that frees takes the next one within milliseconds."""
    fleet.start(concurrency=4)
    tasks = [fleet.send("hold", "go") for _ in range(9)]
    fleet.until(lambda: sum("started" in fleet.notes(task) for task in tasks) == 4, "four tasks run")
    fleet.until(lambda: not fleet.store.hlen("unacked"), "they are acknowledged")
    for left in range(5, 0, -1):
        assert fleet.store.llen("generate.normal") == left
        fleet.store.rpush("go", 1)
        fleet.until(lambda left=left: fleet.store.llen("generate.normal") == left - 1, "the next is taken")
        fleet.until(lambda: not fleet.store.hlen("unacked"), "it is acknowledged")
    fleet.store.rpush("go", *range(4))
    for task in tasks:
        assert fleet.wait_for(task, "succeeded")
    ends = sorted(fleet.events(task)[-1]["timestamp"] for task in tasks)
    starts = sorted(fleet.events(task)[0]["timestamp"] for task in tasks)
    gaps = [start - end for end, start in zip(ends, starts[4:], strict=False)]
    assert statistics.median(gaps) < 0.1, gaps
