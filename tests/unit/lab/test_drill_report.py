"""The report of a drill, and its verdict."""

import json

import pytest

from genqueue.events import of_fields
from genqueue_lab.drill.audit import Findings, Held, pickups, recoveries, silences
from genqueue_lab.drill.plan import Plan
from genqueue_lab.drill.report import Outcome, base_claims, claim, happened, none_of, percentile, report, timely


def findings(**changed):
    """Return what an audit found of two jobs."""
    found = {
        "accepted": 2,
        "ended": {"completed": 2},
        "lost": [],
        "doubled": [],
        "faults": [],
        "streams": {},
        "attempts": {},
    }
    return Findings(**{**found, **changed})


def verdict(*claims):
    """Return the verdict on claims."""
    return report("kill", Plan(print), 1.0, Outcome(findings(), claims, 3)).verdict


def test_the_verdict_is_that_of_the_worst_claim():
    """It fails when one claim does, and is inconclusive when the failure did not happen."""
    right, wrong, unseen = claim("a", holds=True), claim("b", holds=False), happened("c", so=False, why="too slow")
    assert verdict(right) == "holds"
    assert verdict(right, unseen) == "inconclusive"
    assert verdict(right, unseen, wrong) == "fails"


@pytest.mark.parametrize("wrong", ["lost", "doubled", "faults"])
def test_every_kind_of_fault_fails_a_drill(wrong):
    """A lost job, a doubled end and an unsound stream each do."""
    assert {one.verdict for one in base_claims(findings(), None)} == {"holds"}
    assert "fails" in {one.verdict for one in base_claims(findings(**{wrong: ["17-a"]}), None)}


def test_a_report_is_json_and_text():
    """Both have the numbers and the verdict; a long list of faults is cut short."""
    claims = [none_of("nothing is lost", [f"job {number}" for number in range(9)])]
    found = report("kill", Plan(print, quick=True, seed=7), 1.0, Outcome(findings(), claims, 5, (0.5, 1.5, 4.0)))
    decoded = json.loads(json.dumps(found.as_json()))
    assert (decoded["verdict"], decoded["mode"], decoded["seed"]) == ("fails", "quick", 7)
    assert (decoded["duplicate_calls"], decoded["recovery_p50"], decoded["recovery_max"]) == (3, 1.5, 4.0)
    assert "job 4 and 4 more" in found.text()
    assert found.text().endswith("verdict: fails")


def test_a_slow_machine_is_no_fault():
    """A limit in seconds holds where it is kept; where it is not, a machine that is too slow says nothing."""
    assert timely("soon", 0.5, 1.0, "slow").verdict == "holds"
    assert timely("soon", 1.5, 1.0, "slow").verdict == "inconclusive"
    assert timely("soon", 1.5, 1.0, "").verdict == "fails"


def test_recoveries_and_silences_are_read_from_streams():
    """From the end of a lost lease to the next attempt's first entry; those that were handed back have no lease."""
    events = [
        of_fields("1000-0", {"type": "queued", "attempt": "0"}),
        of_fields("1500-0", {"type": "started", "attempt": "1"}),
        of_fields("6250-0", {"type": "restarted", "attempt": "2"}),
    ]
    held = [Held("17-a", 1, 6000, "high"), Held("17-a", 1, 6000, "high", alone=True), Held("17-b", 1, 6000, "low")]
    assert recoveries(held, {"17-a": events}) == [0.25]
    unseen = Held("17-a", 2, 21_100, "high", claimed=6100)  # lost before its first entry
    assert recoveries([held[0], unseen], {"17-a": [*events[:2]]}, looks=[unseen]) == [0.1]
    assert silences([events, []]) == [4.75, 0.0]
    assert pickups([events, []]) == [0.5]
    assert percentile(range(100), 0.99) == 99
    assert percentile([], 0.99) == 0
