"""What a job came to: the folded answer, and the states on the way there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import JobCancelled, JobError, JobExpired, JobFailed
from genqueue.request.shape import read_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.lanes import Lane

#: States a flight never leaves.
ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens the provider counted.

    Attributes:
        prompt_tokens: of the request.
        output_tokens: of the answer.
        thought_tokens: of the model's thinking.
        cached_tokens: of the request that the provider had cached.
        total_tokens: what it bills together.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0
    cached_tokens: int = 0
    total_tokens: int = 0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Usage:
        """Return the usage of a result document; fields this version does not know are left out."""
        return cls(**{name: int(fields.get(name) or 0) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Result:
    """A whole answer.

    Attributes:
        job_id: the job it answers.
        text: the answer's text.
        content: the model's turn, Gemini-shaped and verbatim: {"role": "model", "parts": [...]}. A chat goes on with
            `contents + [result.content, ...]`.
        finish_reason: why the model stopped, in the provider's words: "STOP", "MAX_TOKENS", ...
        usage: tokens.
        source: "live" (the provider was called) or "cache".
        model: the model version that answered.
        fallback_from: the model that was asked for and could not answer, when `model` is a fallback; None otherwise.
        attempts: attempts the flight took.
        continued: how often another attempt went on from the text so far (see `on_interrupt`): the joints may show.
        timings: seconds: "queued" (submit to claim), "ttft" (claim to first token), "total" (submit to end).
        candidate: what was said about the answer as a whole, in the provider's names: `citationMetadata`,
            `groundingMetadata`, `safetyRatings` when they count, `finishMessage`, ...
        prompt_feedback: what was said about the prompt, when it was blocked.
        parsed: the answer as an object of `response_schema`'s type, or decoded JSON for a schema that is a mapping;
            None without a schema, and when the answer is not of that shape.
    """

    job_id: str
    text: str
    content: dict[str, Any]
    finish_reason: str
    usage: Usage
    source: str
    model: str
    attempts: int
    timings: dict[str, float] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)
    prompt_feedback: dict[str, Any] = field(default_factory=dict)
    parsed: Any = None
    continued: int = 0
    fallback_from: str | None = None

    @property
    def thoughts(self) -> str:
        """Text of the model's thinking, where it was asked for."""
        return "".join(part.get("text", "") for part in self._parts if part.get("thought"))

    @property
    def function_calls(self) -> list[dict[str, Any]]:
        """The calls the model wants made: each with `name`, `args` and perhaps `id`."""
        return [part["functionCall"] for part in self._parts if "functionCall" in part]

    @property
    def _parts(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = self.content.get("parts", [])
        return parts


@dataclass(frozen=True, slots=True)
class Status:
    """Where a job is.

    Attributes:
        state: "queued", "running", "waiting", "succeeded", "failed", "cancelled" or "expired".
        lane: the lane it was submitted to.
        tenant: on whose behalf.
        deadline: seconds since 1970.
        attempt: attempts begun so far.
        tries: failed provider calls so far.
        losses: workers lost so far, whatever else they had aboard.
        flight: the paid execution it is a member of.
        task_id: id of the Celery task that the flight was last published with; "" before and without one.
        traceparent: W3C trace context it was submitted with; "" without one.
        replayed_from: the dead job that it replays; "" for any other.
    """

    job_id: str
    state: str
    lane: Lane
    tenant: str
    deadline: float
    attempt: int
    tries: int
    losses: int
    flight: str = ""
    task_id: str = ""
    traceparent: str = ""
    replayed_from: str = ""

    @property
    def ended(self) -> bool:
        """Whether the job has reached its end."""
        return self.state in ENDED


def read_result(job_id: str, document: bytes, source: str) -> Result:
    """Return the result in a flight's result document (JSON)."""
    fields = json.loads(document)
    return Result(
        job_id=job_id,
        text=fields.get("text", ""),
        content=fields.get("content", {}),
        finish_reason=fields.get("finish_reason", ""),
        usage=Usage.from_fields(fields.get("usage", {})),
        source=source,
        model=fields.get("model", ""),
        attempts=int(fields.get("attempts", 1)),
        timings=fields.get("timings", {}),
        candidate=fields.get("candidate", {}),
        prompt_feedback=fields.get("prompt_feedback", {}),
        continued=int(fields.get("continued") or 0),
        fallback_from=fields.get("fallback_from"),
    )


def with_parsed(result: Result, shape: Any) -> Result:
    """Return a result with its text read into a shape: a type, or a schema; None leaves it as it is."""
    return result if shape is None else replace(result, parsed=read_answer(result.text, shape))


def ending_error(job_id: str, state: str, ending: Mapping[str, Any]) -> JobError:
    """Return the error for a job that ended without an answer."""
    if state == "cancelled":
        return JobCancelled(job_id)
    if state == "expired":
        return JobExpired(job_id)
    code, message = str(ending.get("code", "unknown")), str(ending.get("message", "no reason was kept"))
    feedback = json.loads(ending.get("prompt_feedback") or "{}")
    return JobFailed(job_id, code, message, retryable=ending.get("retryable") == "1", prompt_feedback=feedback)
