"""The trace that an attempt belongs to: W3C trace context, from whoever submitted to the attempt."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

try:
    from opentelemetry import trace as api
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    api = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Name of an attempt's span.
SPAN: Final = "genqueue.generate"

#: The trace context that the attempt around was submitted with; "" outside of attempts, and without one.
current: ContextVar[str] = ContextVar("genqueue_traceparent", default="")


_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(traceparent: str) -> str:
    """Return the trace's id in a W3C traceparent; "" in what is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""


@contextmanager
def following(traceparent: str, **attributes: str | int) -> Iterator[None]:
    """Let the block be a part of the trace it was submitted in, in a span of its own where OpenTelemetry is installed.

    Args:
        traceparent: W3C trace context; "" begins no trace.
        **attributes: of the span, without the prefix "genqueue.".
    """
    token = current.set(traceparent)
    try:
        with _span(traceparent, attributes):
            yield
    finally:
        current.reset(token)


@contextmanager
def _span(traceparent: str, attributes: dict[str, Any]) -> Iterator[None]:
    if api is None or not traceparent:
        yield
        return
    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    named = {f"genqueue.{name}": value for name, value in attributes.items()}
    tracer = api.get_tracer("genqueue")
    with tracer.start_as_current_span(SPAN, context=parent, kind=api.SpanKind.CONSUMER, attributes=named):
        yield


def note(**attributes: str | int) -> None:
    """Add attributes to the attempt's span, if there is one."""
    if api is not None:
        api.get_current_span().set_attributes({f"genqueue.{name}": value for name, value in attributes.items()})
