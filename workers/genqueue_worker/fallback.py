"""When another model is asked instead, and what it comes to when none answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genqueue_worker.providers.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue_worker.ways import Step

#: Statuses of a model, or of all that serves it, that has too much to do.
_OVERLOADED: Final = frozenset({503, 529})

#: Statuses that may say so, and do when their message has this word: a quota's 429 never does.
_MAYBE_OVERLOADED: Final = frozenset({429, 500})
_WORD: Final = "overloaded"

#: Codes, with status 404, of what is not there: the model, if the message speaks of one.
_MISSING: Final = frozenset({"NOT_FOUND", "model_not_found"})


def gives_way(error: ProviderError) -> bool:
    """Return whether it is the model that cannot answer, as it is overloaded or retired, so that another one may."""
    message = error.message.lower()
    if error.status == 404:
        return error.code in _MISSING and "model" in message
    return error.status in _OVERLOADED or (error.status in _MAYBE_OVERLOADED and _WORD in message)


def verdict(told: Sequence[tuple[Step, ProviderError]]) -> ProviderError:
    """Return what a chain comes to of which no model answered: its first error that may pass, else its first.

    The message has the words of all.
    """
    _, first = told[0]
    if len(told) == 1:
        return first
    counts = next((error for _, error in told if error.retryable), first)
    others = "".join(f"; {step.name}: {error}" for step, error in told if error is not counts)
    return ProviderError(counts.code, counts.message + others, counts.status, counts.retryable, counts.retry_after)
