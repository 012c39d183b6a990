"""How a status is written."""

from genqueue.cli.jobs import rows_of
from genqueue.result import Status


def status(state):
    """Return a job's status in a state."""
    return Status("1-ab", state, "high", "acme", 1_000_060.0, attempt=2, tries=1, losses=0)


def test_a_live_job_says_how_long_it_has():
    """The deadline is a date and what is left of it."""
    rows = dict(rows_of(status("running"), 1_000_000.0))
    assert rows["deadline"] == "1970-01-12T13:47:40+00:00 (60 s left)"
    assert rows["attempts"] == "2 (1 failed calls, 0 lost workers)"


def test_an_ended_job_has_no_time_left_to_tell():
    """The date alone stays."""
    assert dict(rows_of(status("succeeded"), 1_000_000.0))["deadline"] == "1970-01-12T13:47:40+00:00"
