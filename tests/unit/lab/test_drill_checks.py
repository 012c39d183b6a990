"""What the audit of a drill finds wrong with a stream."""

import pytest

from genqueue.events import of_fields
from genqueue_lab.drill.checks import faults_of

SOUND = "queued@0.0 started@1.1 delta@1.2 restarted@2.0 started@2.1 delta@2.2 completed@2.0"


def stream(text):
    """Return events written as type@attempt.number."""
    events = []
    for index, word in enumerate(text.split()):
        kind, _, place = word.partition("@")
        attempt, _, number = place.partition(".")
        events.append(of_fields(f"{index + 1}-0", {"type": kind, "attempt": attempt, "n": number}))
    return events


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        "queued@0.0 completed@0.0",
        "queued@0.0 started@1.1 waiting@1.0 started@2.1 delta@2.2 completed@2.0",
        "queued@0.0 started@1.1 delta@1.2 continued@2.0 started@2.1 delta@2.2 completed@2.0",
        "queued@0.0 expired@0.0",
    ],
)
def test_a_sound_stream_has_no_faults(text):
    """Restarts, continuations, waits and ends without an answer are all in order."""
    assert faults_of(stream(text)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("queued@0.0 started@1.1 delta@1.2", "no end"),
        (f"{SOUND} completed@2.0", "ends 2 times"),
        (f"{SOUND} delta@2.3", "goes on behind its end"),
        ("started@1.1 delta@1.2 completed@1.0", "does not begin"),
        ("queued@0.0 started@1.1 delta@1.2 delta@1.2 completed@1.0", "number 2 behind 2"),
        ("queued@0.0 started@1.1 delta@1.3 completed@1.0", "number 3 behind 1"),
        ("queued@0.0 started@1.1 restarted@2.0 started@2.1 delta@1.2 completed@2.0", "behind attempt 2"),
        ("queued@0.0 delta@1.1 completed@1.0", "not the same"),
        ("queued@0.0 started@1.1 delta@1.2 started@2.1 delta@2.2 completed@2.0", "without restarted"),
    ],
)
def test_what_is_wrong_is_said(text, said):
    """Doubled ends, entries behind an end, gaps, repeats, entries of void attempts, and silent restarts are found."""
    assert any(said in fault for fault in faults_of(stream(text)))
