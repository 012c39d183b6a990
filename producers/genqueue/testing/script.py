"""What a scripted provider says: texts, and the steps that are no text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from genqueue.ledger import Entry
    from genqueue.testing.recorded import Recorded

#: What a request is answered with for which nothing was scripted.
DEFAULT_ANSWER: Final = "This is what genqueue.testing answers when nothing is scripted."


@dataclass(frozen=True, slots=True)
class Say:
    """Write one entry: a `delta`, `thought` or `part`."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Hold:
    """Say no more until `release`."""


@dataclass(frozen=True, slots=True)
class Lose:
    """Lose the worker; another one goes on with the next step, and readers begin anew."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Fail this try; the next one, `delay` seconds later, goes on with the next step."""

    code: str
    message: str
    delay: float


@dataclass(frozen=True, slots=True)
class Fail:
    """End without an answer."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """End with the answer so far.

    Attributes:
        reason: the model's finish reason; only after "STOP" is the answer cached.
        usage: token counts, see `Result.usage`; one output token for each piece when None.
        model: the model version that answers; the one asked for when None.
        fallback_from: the model asked for, when another one answers in its place.
    """

    reason: str = "STOP"
    usage: Mapping[str, int] | None = field(default=None)
    model: str | None = None
    fallback_from: str | None = None


Step = Say | Hold | Lose | Retry | Fail | Finish
#: A text, a list of texts and steps, or a function of the request that returns either.
Answer = str | Step | Iterable["str | Step"] | Callable[["Recorded"], Any]


def thought(text: str) -> Step:
    """Say a piece of the model's thinking."""
    return Say({"type": "thought", "text": text})


def part(document: Mapping[str, Any], about: str = "part") -> Step:
    """Say any other piece as the provider would send it, such as {"functionCall": {"name": "f", "args": {}}}."""
    return Say({"type": "part", "about": about, "json": json.dumps(document, ensure_ascii=False)})


def hold() -> Step:
    """Wait here until the test calls `release`."""
    return Hold()


def lose() -> Step:
    """Lose the worker here: what was said is void, the next attempt goes on with the next step."""
    return Lose()


def retry(code: str = "UNAVAILABLE", message: str = "try again", *, delay: float = 0.0) -> Step:
    """Fail this try as one that may be repeated.

    The next attempt goes on with the next step: at once, or when the test has advanced the clock by `delay` seconds.
    """
    return Retry(code, message, delay)


def fail(code: str = "INTERNAL", message: str = "scripted failure", *, retryable: bool = False) -> Step:
    """End the job without an answer."""
    return Fail(code, message, retryable)


def finish(
    reason: str = "STOP",
    *,
    usage: Mapping[str, int] | None = None,
    model: str | None = None,
    fallback_from: str | None = None,
) -> Step:
    """End the answer otherwise than with "STOP", with counts of tokens, or as another model's; needed for no more.

    `model` is the one that answers, `fallback_from` the one asked for, when another answers in its place.
    """
    return Finish(reason, usage, model, fallback_from)


def steps_of(answer: Any, request: Recorded) -> list[Step]:
    """Return the steps of an answer to a request, the last of which ends it.

    Raises:
        TypeError: it is no answer.
    """
    if callable(answer):
        answer = answer(request)
    if isinstance(answer, str | Step):
        answer = [answer]
    if isinstance(answer, Mapping | bytes) or not isinstance(answer, Iterable):
        raise TypeError(f"an answer is a text, a list of texts and steps, or a function returning one; got {answer!r}")
    steps = [_step(item) for item in answer]
    ends = [index for index, step in enumerate(steps) if isinstance(step, Fail | Finish)]
    if ends and ends[0] != len(steps) - 1:
        raise TypeError(f"an answer ends with {steps[ends[0]]!r}; got more behind it")
    return steps if ends else [*steps, Finish()]


def _step(item: object) -> Step:
    if isinstance(item, str):
        return Say({"type": "delta", "text": item})
    if isinstance(item, Step):
        return item
    raise TypeError(f"a step is a text or made by thought, part, hold, lose, retry, fail or finish; got {item!r}")
