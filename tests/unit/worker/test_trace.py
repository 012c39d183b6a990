"""The trace an attempt belongs to."""

import sys

import pytest
from opentelemetry import trace as api

from genqueue_worker import trace

TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = f"00-{TRACE_ID}-{PARENT}-01"


class Tracer(api.Tracer):
    """Keeps the spans it starts: name, the context they are children of, and attributes."""

    def __init__(self):
        self.started = []

    def start_span(self, name, context=None, kind=None, attributes=None, **_):
        """Begin one."""
        parent = api.get_current_span(context).get_span_context()
        span = Span(parent)
        span.attributes = dict(attributes)
        self.started.append((name, parent, kind, span))
        return span

    def start_as_current_span(self, name, context=None, **options):
        """Begin one for a block."""
        return api.use_span(self.start_span(name, context, **options), end_on_exit=True)


class Span(api.NonRecordingSpan):
    """A span that keeps its attributes and whether it ended."""

    ended = False

    def is_recording(self):
        """Keep what is told."""
        return True

    def set_attributes(self, attributes):
        """Keep more."""
        self.attributes.update(attributes)

    def end(self, end_time=None):
        """End."""
        self.ended = True


@pytest.fixture
def tracer(monkeypatch):
    """Put a tracer of the test's own behind OpenTelemetry."""
    made = Tracer()
    monkeypatch.setattr(trace.api, "get_tracer", lambda name: made)
    return made


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [(TRACE, TRACE_ID), ("", ""), ("00-x-y-01", ""), (TRACE.upper(), ""), ("ff" + TRACE[2:], "")],
)
def test_the_traces_id_is_in_the_traceparent(traceparent, expected):
    """And in nothing else."""
    assert trace.trace_id(traceparent) == expected


def test_an_attempt_is_a_span_of_the_trace_it_was_submitted_in(tracer):
    """A child of the submitter's span, with what it is about, ended with the attempt."""
    with trace.following(TRACE, flight="3-f", attempt=2):
        assert trace.current.get() == TRACE
        trace.note(outcome="succeeded")
    ((name, parent, kind, span),) = tracer.started
    assert name == "genqueue.generate"
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.is_remote) == (TRACE_ID, PARENT, True)
    assert kind is api.SpanKind.CONSUMER
    assert span.attributes == {"genqueue.flight": "3-f", "genqueue.attempt": 2, "genqueue.outcome": "succeeded"}
    assert span.ended
    assert trace.current.get() == ""


def test_a_span_ends_with_what_the_attempt_raises(tracer):
    """It goes through."""
    with pytest.raises(KeyError), trace.following(TRACE):
        raise KeyError
    assert tracer.started[0][3].ended


def test_without_a_trace_there_is_no_span(tracer):
    """A trace is begun by whoever submits."""
    with trace.following(""):
        trace.note(outcome="succeeded")
    assert not tracer.started


def test_without_opentelemetry_the_context_is_there_all_the_same(monkeypatch):
    """It is no dependency."""
    monkeypatch.setattr(trace, "api", None)
    with trace.following(TRACE, flight="3-f"):
        trace.note(outcome="succeeded")
        assert trace.current.get() == TRACE
    assert "opentelemetry.trace" in sys.modules
