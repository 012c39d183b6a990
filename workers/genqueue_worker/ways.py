"""The ways to the models: what each provider is asked with, and whom a job's model leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from genqueue_worker.access import Access
    from genqueue_worker.model_table import ModelTable
    from genqueue_worker.providers.errors import ProviderError
    from genqueue_worker.providers.seam import Kind, Provider, ProviderRequest, Route
    from genqueue_worker.warmth import Warmth

#: Chains that are kept once found: a table with a pattern for anything could meet names without end.
KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class Way:
    """One provider as this worker asks it.

    Attributes:
        access: whether it takes the key.
        warmth: whether it has answered; None where one flight runs alone.
    """

    provider: Provider
    route: Route
    access: Access
    warmth: Warmth | None = None

    async def prepare(self) -> None:
        """Open the first connections, and try the key if they did not answer well."""
        if self.warmth is not None and not await self.warmth.warm_up():
            await self.access.try_key()

    def chores(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield what is to run meanwhile: tell that the lanes are served, try a refused key again, warm what is cold.

        Each is for a task of its own, to be cancelled until it has ended: see `runtime.end`.
        """
        yield self.access.run()
        if self.warmth is not None:
            yield self.warmth.run()

    def heard(self) -> None:
        """Take note that it has answered a request."""
        if self.warmth is not None:
            self.warmth.warm = True

    @property
    def has_answered(self) -> bool:
        """Whether it has answered anything well."""
        return self.warmth is not None and self.warmth.warm

    @property
    def refusal(self) -> ProviderError | None:
        """How the provider refuses the key; None while it does not."""
        return self.access.refusal


@dataclass(frozen=True, slots=True)
class Step:
    """One model of a chain.

    Attributes:
        name: as it was asked for, after aliases.
        model: the provider's own name for it.
        way: to the provider.
    """

    name: str
    model: str
    way: Way


class Ways:
    """Leads from what a job says to the models that are asked for it.

    Args:
        by_kind: the way to each provider that is configured.
    """

    def __init__(self, table: ModelTable, by_kind: Mapping[Kind, Way]) -> None:
        self.table = table
        self._by_kind = by_kind
        self._chains: dict[str, tuple[Step, ...]] = {}

    def __iter__(self) -> Iterator[Way]:
        """Yield the way to each provider."""
        return iter(self._by_kind.values())

    def chain(self, said: str) -> tuple[Step, ...]:
        """Return the model that a job means, and its fallbacks in order; raises ProviderError `unknown_model`."""
        found = self._chains.get(said)
        if found is None:
            choices = self.table.chain(said)
            found = tuple(Step(one.name, one.model, self._by_kind[one.kind]) for one in choices)
            if len(self._chains) < KEPT:
                self._chains[said] = found
        return found

    def route(self, request: ProviderRequest) -> tuple[Step, ...]:
        """Return the chain of a request, without fallbacks that it may not be sent to.

        Raises:
            ProviderError: `unknown_model`; or `no_route`, it may not be sent to the model that it means.
        """
        first, *others = chain = self.chain(request.model)
        first.way.route.admit(request)
        if not others or not request.residency:
            return chain
        return first, *(step for step in others if step.way.route.admits(request))
