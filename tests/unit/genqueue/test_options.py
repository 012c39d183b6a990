"""How a job may be queued, and what a caller is told when it may not."""

import json
import sys
from fractions import Fraction

import pytest

from genqueue.errors import InvalidRequest
from genqueue.options import MAX_DEADLINE, MAX_TTL, JobOptions, build_options
from genqueue.order import make_order, order_of

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lane", "urgent"),
        ("lane", True),
        ("tenant", ""),
        ("tenant", 7),
        ("tenant", "a b"),
        ("tenant", "a\n"),
        ("cache", "yes"),
        ("cache", ["use"]),
        ("share", "all"),
        ("store", "never"),
        ("on_interrupt", "never"),
        *(
            (name, value)
            for name in ("deadline", "stream_ttl", "result_ttl", "cache_ttl")
            for value in (True, "30", b"30", 0, -1, float("nan"), float("inf"), 10**400, 1j, [30], object())
        ),
        ("deadline", MAX_DEADLINE + 1),
        ("result_ttl", MAX_TTL + 1),
        *((name, value) for name in ("max_tries", "max_losses") for value in (True, 0, 1.0, "3", 1001)),
        ("residency", "europe-west4"),
        ("residency", []),
        ("residency", ["europe-west4", ""]),
        ("residency", [7]),
        ("residency", {"europe-west4": 1}),
        ("idempotency_key", ""),
        ("idempotency_key", "k" * 256),
        ("idempotency_key", 7),
        ("idempotency_key", "\ud800"),
        ("job_id", 7),
        ("on_done", 7),
        ("on_done", "http://example.com/"),
        ("traceparent", "00-abc"),
        ("traceparent", TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)),
        ("traceparent", TRACE.upper()),
    ],
)
def test_a_wrong_option_is_refused_by_name(option, value):
    """With the value and what is expected instead."""
    with pytest.raises(InvalidRequest, match="expected") as raised:
        build_options(**{option: value})
    assert raised.value.field.partition(".")[0] == option


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("lane", 1, "high"),
        ("lane", "3", "low"),
        ("deadline", 30, 30.0),
        ("deadline", Fraction(1, 2), 0.5),
        ("residency", ["us-east1", "europe-west4", "us-east1"], ("europe-west4", "us-east1")),
        ("residency", {"eu"}, ("eu",)),
        ("idempotency_key", "Bestellung №7", "Bestellung №7"),
        ("traceparent", TRACE, TRACE),
        ("max_tries", 1, 1),
        ("stream_ttl", 0.5, 0.5),
    ],
)
def test_an_option_is_kept_in_one_form(option, value, kept):
    """Whichever way it was written."""
    assert getattr(build_options(**{option: value}), option) == kept


def test_none_is_the_default():
    """Of every option, so that callers may pass theirs on."""
    assert build_options(**dict.fromkeys(JobOptions.model_fields)) == build_options()


def test_the_residency_is_part_of_the_question():
    """Equal questions that may run in other places do not share an answer; the order of the regions is none."""
    anywhere, one, same, other = (
        make_order("Hello", "m", {} if where is None else {"residency": where}).document
        for where in (None, ["a", "b"], ("b", "a"), ["a"])
    )
    assert one == same
    assert len({anywhere, one, other}) == 3
    assert json.loads(one)["residency"] == ["a", "b"]


def test_the_trace_is_opentelemetrys_current_one():
    """Unless one is given; without a span, or without OpenTelemetry, there is none."""
    from opentelemetry import trace

    context = trace.SpanContext(
        int("0af7651916cd43dd8448eb211c80319c", 16),
        0xB7AD6B7169203331,
        is_remote=False,
        trace_flags=trace.TraceFlags(1),
    )
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert make_order("Hello", "m", {}).options.traceparent == TRACE
        given = TRACE.replace("01", "00", 1)
        assert make_order("Hello", "m", {"traceparent": given}).options.traceparent == given
    assert make_order("Hello", "m", {}).options.traceparent is None


def test_opentelemetry_is_not_needed(monkeypatch):
    """Nor is it imported: whoever has a span has done that."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert make_order("Hello", "m", {}).options.traceparent is None
    assert "opentelemetry.trace" not in sys.modules


def test_an_item_has_what_the_defaults_lack():
    """And what it has counts before them; None means a default's absence."""
    defaults = {"model": "m", "lane": "low", "deadline": 5}
    order = order_of({"contents": "Hello", "lane": "high", "deadline": None}, defaults)
    assert (order.options.lane, order.options.deadline) == ("high", None)
    assert defaults == {"model": "m", "lane": "low", "deadline": 5}
