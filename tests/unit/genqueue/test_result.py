"""What a job came to."""

import json

import pytest

from genqueue.errors import JobCancelled, JobExpired, JobFailed
from genqueue.result import ENDED, Result, Status, Usage, ending_error, read_result

WHOLE = {
    "v": 1,
    "text": "Yes.",
    "content": {"role": "model", "parts": [{"text": "Yes."}]},
    "finish_reason": "STOP",
    "usage": {"prompt_tokens": 3, "output_tokens": 1, "total_tokens": 4},
    "model": "gemini-2.5-flash-001",
    "attempts": 2,
    "timings": {"queued": 0.1},
}


def test_a_continued_answer_says_so():
    """As often as another attempt went on from it; worker and readers write numbers as texts."""
    documents = (WHOLE, {**WHOLE, "continued": "1"}, {**WHOLE, "continued": 2})
    assert [read_result("1-a", json.dumps(one).encode(), "live").continued for one in documents] == [0, 1, 2]


def test_a_document_becomes_a_result():
    """Every field is where the caller looks for it."""
    made = read_result("1-a", json.dumps(WHOLE).encode(), "cache")
    assert made == Result(
        "1-a",
        "Yes.",
        WHOLE["content"],
        "STOP",
        Usage(prompt_tokens=3, output_tokens=1, total_tokens=4),
        "cache",
        "gemini-2.5-flash-001",
        2,
        {"queued": 0.1},
    )


@pytest.mark.parametrize("change", [{"usage": {"dreamed_tokens": 5}, "later": 1}, {"usage": {"prompt_tokens": None}}])
def test_documents_of_other_versions_are_read(change):
    """Fields that are new are left out, fields that lack are empty."""
    assert read_result("1-a", json.dumps({**WHOLE, **change}).encode(), "live").usage == Usage()
    assert read_result("1-a", b"{}", "live") == Result("1-a", "", {}, "", Usage(), "live", "", 1)


@pytest.mark.parametrize(
    ("state", "kind"), [("cancelled", JobCancelled), ("expired", JobExpired), ("failed", JobFailed)]
)
def test_each_bad_end_has_its_error(state, kind):
    """A caller can tell them apart by type, and each knows its job."""
    error = ending_error("1-a", state, {})
    assert type(error) is kind
    assert error.job_id == "1-a"
    assert "1-a" in str(error)


def test_a_failure_keeps_the_providers_words():
    """Code, message and whether to try again come from the terminal event."""
    error = ending_error("1-a", "failed", {"code": "RESOURCE_EXHAUSTED", "message": "Quota.", "retryable": "1"})
    assert (error.code, error.message, error.retryable) == ("RESOURCE_EXHAUSTED", "Quota.", True)
    assert not ending_error("1-a", "failed", {"retryable": "0"}).retryable
    assert ending_error("1-a", "failed", {}).code == "unknown"


def test_a_status_knows_whether_it_is_final():
    """Exactly the four ends are."""
    states = ["queued", "running", "waiting", *ENDED]
    final = {state for state in states if Status("1-a", state, "low", "default", 0.0, 0, 0, 0).ended}
    assert final == ENDED
