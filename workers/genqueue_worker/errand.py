"""What is to be generated, and the models to ask for it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genqueue_worker.documents import take_request
from genqueue_worker.shown import NOTHING, Shown, going_on

if TYPE_CHECKING:
    from genqueue_worker.attempt import Attempt
    from genqueue_worker.providers.seam import ProviderRequest
    from genqueue_worker.runtime import Runtime
    from genqueue_worker.ways import Step


@dataclass(slots=True)
class Errand:
    """One attempt's request on its way to the first model that answers.

    Attributes:
        chain: the models to ask, in order.
        request: what is asked; None once nobody else is to be asked: a large one must not stay in memory.
        laden: whether some of its inline data may be in the blob store.
        shown: what earlier attempts have shown, from which this one goes on.
    """

    chain: tuple[Step, ...]
    request: ProviderRequest | None
    laden: bool = False
    shown: Shown = NOTHING

    def hand_over(self, step: Step) -> ProviderRequest:
        """Return the request as a model of the chain is asked it, which whoever sends it may change."""
        assert self.request is not None  # noqa: S101 - each step is taken once, and the last one lets go of it
        request = replace(self.request, model=step.model)
        if step is self.chain[-1]:
            self.request = None
        elif self.laden:
            request = replace(
                request,
                contents=copy.deepcopy(request.contents),
                system_instruction=copy.deepcopy(request.system_instruction),
            )
        return request


async def routed(runtime: Runtime, attempt: Attempt) -> Errand:
    """Open the stored request, and find whom to ask.

    Raises:
        ProviderError: `unknown_model`, `no_route`.
        Unreadable: the stored request cannot be read here.
    """
    request, laden = await take_request(runtime.codec, attempt)
    return Errand(runtime.ways.route(request), request, laden)


async def go_on(runtime: Runtime, attempt: Attempt, errand: Errand) -> None:
    """Have an errand go on from what earlier attempts have shown; raises Unreadable."""
    assert errand.request is not None  # noqa: S101 - nobody was asked yet
    errand.shown = await runtime.streams.shown(attempt.flight)
    errand.request = going_on(errand.request, errand.shown)
