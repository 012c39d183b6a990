from pathlib import Path

import pytest

from genqueue.events import Event
from genqueue_lab.drill.fault_table import CASES, markdown, retry
from genqueue_lab.drill.fault_trials import Trial, difference, early, outcome, rows
from genqueue_lab.drill.load import Accepted
from genqueue_lab.emulator.faults import KINDS, Rule
from genqueue_lab.emulator.requests import fingerprint

DOCUMENT = Path(__file__).parents[3] / "ops" / "retries.md"
JOB = Accepted("j", "f", "s", "why?", "high", 0.0)
CASE = {case.name: case for case in CASES}


def stream(*types, **fields):
    """Return events of some types, half a second apart; those behind `waiting` are of attempt 2."""
    attempts = [1 + ("waiting" in types[:number]) for number in range(len(types))]
    return [
        Event(f"{500 * number}-0", kind, attempts[number], 0, fields if kind in {"waiting", "failed"} else {})
        for number, kind in enumerate(types)
    ]


def test_the_document_shows_the_table():
    """What is documented is what the drill checks."""
    assert markdown() in DOCUMENT.read_text()


def test_every_fault_of_the_emulator_is_drilled():
    """No kind is left out, every rule is one the emulator takes, and names are different."""
    assert {case.rule["kind"] for case in CASES} == set(KINDS)
    assert all(Rule.convert({**case.rule, "match": case.name}) for case in CASES)
    assert len(CASE) == len(CASES)


@pytest.mark.parametrize(
    ("types", "calls", "found"),
    [
        (("started", "delta", "completed"), 1, "completed"),
        (("started", "delta", "completed"), 2, "sent again"),
        (("started", "waiting", "started", "completed"), 2, "retry `E`"),
        (("started", "delta", "waiting", "continued", "started", "completed"), 2, "retry `E`, continued"),
        (("started", "failed"), 1, "failed `E`"),
        (("started", "waiting", "started", "failed"), 2, "failed `E` after 1 retries"),
        (("started", "waiting", "waiting", "completed"), 3, "completed after E, E"),
        (("started", "delta"), 1, "no end"),
    ],
)
def test_an_outcome_is_put_in_the_words_of_the_table(types, calls, found):
    """A stream, and how often the provider was asked, say what became of the job."""
    assert outcome(stream(*types, code="E"), calls) == found


def test_a_trial_that_differs_says_how():
    """Another outcome, a request too many, and a missing word to the readers are differences."""
    trial = Trial(CASE["reset"], "after", JOB, retry("protocol_error"))
    asked = {fingerprint("why?"): 2}
    types = ["started", "delta", "waiting", "restarted", "started", "completed"]
    good = stream(*types, code="protocol_error")
    assert difference(trial, good, asked) == ""
    assert "not retry `protocol_error`" in difference(trial, stream(*types, code="other"), asked)
    assert "3 requests" in difference(trial, good, {fingerprint("why?"): 3})
    types.remove("restarted")
    assert "no word of another attempt" in difference(trial, stream(*types, code="protocol_error"), asked)
    assert rows([trial], {"f": good}, asked) == [{"fault": "reset", "before": "", "after": "retry `protocol_error`"}]


def test_a_try_before_the_told_moment_is_early():
    """A second try waits as long as the provider said."""
    trial = Trial(CASE["status 429 with RetryInfo"], "before", JOB, "")
    soon = stream("started", "waiting", "started")
    late = stream("started", "waiting", "left", "left", "started")
    assert (early(trial, soon) != "", early(trial, late)) == (True, "")
