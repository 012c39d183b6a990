"""Which provider serves a model: patterns, aliases, and what is asked when a model cannot answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, get_args

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Every kind of provider; of two that could serve a model by default, the first configured one does.
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

#: What makes each kind configured.
NEEDED: Final[Mapping[Kind, str]] = {
    "gemini": "GENQUEUE_GEMINI_API_KEY",
    "vertex": "GENQUEUE_VERTEX_PROJECT",
    "openai": "GENQUEUE_OPENAI_API_KEY",
}

#: Models by the names their vendors give them.
_GOOGLES: Final = ("gemini-*", "gemma-*", "tunedModels/*")
_VERTEXES: Final = ("publishers/*", "projects/*", "endpoints/*")
_OPENAIS: Final = ("gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "ft:gpt-*")

#: What a job may say without knowing the models of the day.
_ALIASES: Final[Mapping[str, str]] = {"fast": "gemini-2.5-flash", "best": "gemini-2.5-pro"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One model, and who is asked for it.

    Attributes:
        name: as it was asked for, after aliases.
        kind: the provider's.
        model: the provider's own name for it.
    """

    name: str
    kind: Kind
    model: str


@dataclass(frozen=True, slots=True)
class Entries:
    """What a table says.

    Attributes:
        models: kind of provider by pattern, in which `*` stands for anything; of several the longest counts.
        aliases: names by what a job may say instead; these may be aliases themselves.
        fallbacks: models to ask when one cannot answer, in order, by its name.
    """

    models: Mapping[str, Kind] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def built_in(configured: Collection[Kind]) -> Entries:
    """Return what holds where no file says otherwise, for the kinds of provider that are configured."""
    googles: Kind = "vertex" if "vertex" in configured and "gemini" not in configured else "gemini"
    models: dict[str, Kind] = {
        **dict.fromkeys(_GOOGLES, googles),
        **dict.fromkeys(_VERTEXES, "vertex"),
        **dict.fromkeys(_OPENAIS, "openai"),
    }
    return Entries(models, _ALIASES)


class ModelTable:
    """Finds the models to ask for what a job says, in order.

    Args:
        configured: kinds of provider that can be asked.
        further: adds to what is built in, and overrides it.

    Attributes:
        entries: all it says.
    """

    def __init__(self, configured: Collection[Kind], further: Entries | None = None) -> None:
        default, further = built_in(configured), further or Entries()
        # A model that somebody names is not hidden by an alias that nobody asked for.
        aliases = {alias: name for alias, name in default.aliases.items() if alias not in further.models}
        self.entries = Entries({**default.models, **further.models}, {**aliases, **further.aliases}, further.fallbacks)
        self.configured = tuple(kind for kind in KINDS if kind in configured)
        ordered = sorted(self.entries.models.items(), key=lambda item: _rank(item[0]))
        self._patterns = [(matching(pattern), kind) for pattern, kind in ordered]

    def chain(self, said: str) -> tuple[Choice, ...]:
        """Return the model meant and its fallbacks, in the order in which they are asked.

        Raises:
            ProviderError: `unknown_model`, nobody here serves the model.
        """
        name = self.meant(said)
        first = self.choice(name)
        names = (name, f"{first.kind}/{first.model}", first.model)
        further = next((found for found in map(self.entries.fallbacks.get, names) if found), ())
        return first, *self._others(first, further)

    def meant(self, said: str) -> str:
        """Return the name behind aliases."""
        name, seen = said.removeprefix("models/"), set[str]()
        while name in self.entries.aliases and name not in seen:
            seen.add(name)
            name = self.entries.aliases[name]
        return name

    def choice(self, name: str) -> Choice:
        """Return who is asked for a model; raises ProviderError `unknown_model`."""
        kind, model = self.served_by(name), name
        if kind is None:
            raise ProviderError("unknown_model", self._unknown(name))
        if kind not in self.configured:
            why = f"the model {name!r} is {kind}'s by the model table, and this worker does not ask {kind}"
            raise ProviderError("unknown_model", f"{why}: set {NEEDED[kind]}, or GENQUEUE_MODELS_FILE to another table")
        prefix, slash, rest = name.partition("/")
        return Choice(name, kind, rest if slash and rest and prefix == kind else model)

    def served_by(self, name: str) -> Kind | None:
        """Return the kind of provider that serves a model, configured or not; None when nothing tells."""
        prefix, slash, rest = name.partition("/")
        for kind in KINDS:
            if slash and rest and prefix == kind:
                return kind
        found = next((kind for pattern, kind in self._patterns if pattern.fullmatch(name)), None)
        return found or (self.configured[0] if len(self.configured) == 1 else None)

    def _others(self, first: Choice, names: Collection[str]) -> Iterator[Choice]:
        for name in names:
            other = self.choice(self.meant(name))
            if other != first:
                yield other

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(self.entries.models, key=_rank))
        return (
            f"no provider is known for the model {name!r}: the model table has {known}; "
            f"say {self.configured[0]}/{name}, or add it to [models] in GENQUEUE_MODELS_FILE"
        )


def matching(pattern: str) -> re.Pattern[str]:
    """Return what a pattern of the table matches: `*` is anything, all else itself."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _rank(pattern: str) -> tuple[int, bool, str]:
    """Order patterns: the one with the most letters first, and a plain name before a pattern as long."""
    stars = pattern.count("*")
    return stars - len(pattern), stars > 0, pattern
