"""How to queue a request: `JobOptions`, validated before anything is queued."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from numbers import Real
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import canonical
from genqueue.lanes import Lane, parse_lane
from genqueue.on_done import parse_on_done
from genqueue.request.complaint import invalid

#: Longest time a job may be given, in seconds.
MAX_DEADLINE: Final = 30 * 86_400.0

#: Longest time anything may be kept, in seconds: ten years.
MAX_TTL: Final = 315_360_000.0

Cache = Literal["use", "refresh", "off"]
Share = Literal["tenant", "global", "none"]
Store = Literal["request", "none"]
OnInterrupt = Literal["restart", "continue", "fail"]

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def _seconds(field: str, most: float) -> BeforeValidator:
    """Return a check for a duration: a number, which neither True nor "30" is."""

    def check(value: object) -> object:
        number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        if not 0 < number <= most:
            raise InvalidRequest(field, value, f"a number of seconds, over 0 and at most {most:.0f}")
        return float(number)

    return BeforeValidator(check)


def _count(field: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
            raise InvalidRequest(field, value, "a whole number from 1 to 1000")
        return value

    return BeforeValidator(check)


def _residency(value: object) -> object:
    several = isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, (str, bytes))
    if not several or not value:
        raise InvalidRequest("residency", value, "a list of region names such as ['europe-west4']; None means any")
    for region in value:  # type: ignore[attr-defined]
        if not isinstance(region, str) or not _REGION.fullmatch(region):
            raise InvalidRequest("residency", region, "a region's name such as europe-west4")
    return tuple(sorted(set(value)))  # type: ignore[call-overload]


def _idempotency_key(value: object) -> object:
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        raise InvalidRequest("idempotency_key", value, "a text of 1 to 255 characters")
    return canonical(value, "idempotency_key")


def _traceparent(value: object) -> object:
    if not isinstance(value, str) or not _TRACEPARENT.fullmatch(value):
        expected = "a W3C traceparent such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        raise InvalidRequest("traceparent", value, expected)
    return value


def _job_id(value: object) -> object:
    if not isinstance(value, str):
        raise InvalidRequest("job_id", value, "an id from client.new_job_id() or SubmitUncertain")
    return value


def _lane(value: object) -> Lane:
    return parse_lane(value)


class JobOptions(BaseModel):
    """How to queue a request.

    Args:
        lane: "high", "normal" or "low" (or 1, 2, 3).
        tenant: on whose behalf; answers are shared within one tenant only.
        deadline: seconds from submit after which the answer is of no use; the lane's default when None.
        cache: "use" a cached answer, "refresh" it, or keep "off" the cache altogether.
        share: with whom an equal question is shared: "tenant", "global" (everybody), "none".
        residency: regions the job may run in; anywhere when None.
        idempotency_key: the caller's name for this submission: for `idempotency_ttl` it gives the same job.
        job_id: an id made before, by `new_job_id` or of a SubmitUncertain; made anew when None.
        on_done: what is told of the end: an https URL, or a Celery signature (stored as an object with `url`, or with
            `task`, `args`, `kwargs`, `options` and `immutable`).
        on_interrupt: what becomes of an attempt that ends early though it has shown something: "restart" begins the
            answer anew, "continue" has the model go on from what was shown (requests of plain text only), "fail" ends
            the job.
        store: "request" keeps the prompt of a failed job for `dead_ttl`; "none" drops it at every end.
        stream_ttl, result_ttl, cache_ttl: seconds; the setting of that name when None.
        max_tries, max_losses: the setting of that name when None.
        traceparent: W3C trace context; OpenTelemetry's current one when None and there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    lane: Annotated[Lane, BeforeValidator(_lane)] = "normal"
    tenant: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]*$")] = "default"
    deadline: Annotated[float | None, _seconds("deadline", MAX_DEADLINE)] = None
    cache: Cache = "use"
    share: Share = "tenant"
    residency: Annotated[tuple[str, ...] | None, BeforeValidator(_residency)] = None
    idempotency_key: Annotated[str | None, BeforeValidator(_idempotency_key)] = None
    job_id: Annotated[str | None, BeforeValidator(_job_id)] = None
    on_done: Annotated[dict[str, Any] | None, BeforeValidator(parse_on_done)] = None
    on_interrupt: OnInterrupt = "restart"
    store: Store = "request"
    stream_ttl: Annotated[float | None, _seconds("stream_ttl", MAX_TTL)] = None
    result_ttl: Annotated[float | None, _seconds("result_ttl", MAX_TTL)] = None
    cache_ttl: Annotated[float | None, _seconds("cache_ttl", MAX_TTL)] = None
    max_tries: Annotated[int | None, _count("max_tries")] = None
    max_losses: Annotated[int | None, _count("max_losses")] = None
    traceparent: Annotated[str | None, BeforeValidator(_traceparent)] = None


def build_options(**options: Any) -> JobOptions:
    """Return validated options; raises InvalidRequest naming the first option that is wrong."""
    try:
        return JobOptions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise invalid(error) from error
