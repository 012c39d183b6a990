"""What a message may show of the value it complains about."""

import pickle

import pytest

from genqueue.errors import (
    CapacityError,
    GenqueueError,
    InvalidRequest,
    JobFailed,
    MissingExtra,
    QueueFull,
    ServerUnavailable,
    WaitTimeout,
    shown,
)


class Unshowable:
    """An object nobody can print."""

    def __repr__(self):
        raise RuntimeError("no")


def nested(depth):
    """Return a list in a list in a list."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_long_value_is_cut_and_measured():
    """A prompt of a megabyte does not end up in a log line."""
    text = shown("x" * 1_000_000)
    assert len(text) < 120
    assert text.endswith("... (1000002 characters)")


@pytest.mark.parametrize("value", [Unshowable(), nested(10_000), 10**5000], ids=["repr", "depth", "digits"])
def test_a_value_that_cannot_be_printed_still_makes_a_message(value):
    """Whatever printing raises, the error about the value is the one that is raised."""
    error = InvalidRequest("contents", value, "a text")
    assert str(error) == f"contents: got a {type(value).__name__} that cannot be shown, expected a text"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidRequest("lane", 9, "1 to 3"), ValueError),
        (WaitTimeout("1-a", 2.0), TimeoutError),
        (MissingExtra("gateway", "starlette"), ImportError),
    ],
)
def test_errors_are_also_the_builtin_ones_they_mean(error, builtin):
    """Code that knows nothing of genqueue catches them by their usual names."""
    assert isinstance(error, builtin)
    assert isinstance(error, GenqueueError)


def test_a_failure_leads_to_its_history_where_that_is_kept():
    """Whatever may succeed later is a dead letter; what was refused for good is not."""
    hint = "genqueue dead show 1-a"
    assert [hint in str(JobFailed("1-a", "X", "no", retryable=kept)) for kept in (True, False)] == [True, False]


def test_a_full_lane_survives_pickling():
    """With what a caller needs to come again."""
    full = pickle.loads(pickle.dumps(QueueFull("low", 15.0, "no memory")))
    assert (full.lane, full.retry_after, full.reason) == ("low", 15.0, "no memory")
    assert isinstance(full, CapacityError)


def test_an_unavailable_server_is_named_with_its_remedy():
    """The message says which server, why, and which variable to look at."""
    error = ServerUnavailable("10.0.0.1:6379/0", "connection refused")
    assert "10.0.0.1:6379/0" in str(error)
    assert "connection refused" in str(error)
    assert "GENQUEUE_DATA_URL" in str(error)
