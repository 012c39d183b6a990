"""How long a provider may be silent, by model and lane, and the cut when it is silent for longer."""

from __future__ import annotations

import asyncio
import math
import re
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from genqueue_worker.providers.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from genqueue_worker.attempt import Attempt
    from genqueue_worker.providers.seam import Chunk, ProviderRequest, Route, Source

#: Seconds between two looks at what is the limit now: a join may have raised the lane.
LOOK: Final = 1.0

#: Longest limit, in seconds.
LONGEST: Final = 86_400.0

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
_EXPECTED: Final = "expected seconds, or a list such as 30,high=10,gemini-2.5-pro=120,gemini-2.5-pro/high=60"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of silence allowed.

    Attributes:
        general: where nothing more specific is said.
        special: by "model/lane", model or lane, of which the first counts.
    """

    general: float
    special: Mapping[str, float] = field(default_factory=dict)

    def of(self, model: str, lane: str) -> float:
        """Return the limit of a model on a lane."""
        if not self.special:
            return self.general
        model = model.removeprefix("models/")
        for name in (f"{model}/{lane}", model, lane):
            if name in self.special:
                return self.special[name]
        return self.general

    @property
    def longest(self) -> float:
        """The longest of them."""
        return max(self.general, *self.special.values()) if self.special else self.general


def parse_limits(text: str, general: float) -> Limits:
    """Return the limits that a setting spells; `general` is that of a list without a plain number.

    Raises:
        ValueError: an item is wrong, or there twice; the message says which.
    """
    found: dict[str, float] = {}
    for item in (part.strip() for part in text.split(",")):
        name, equals, seconds = item.rpartition("=")
        name = name.strip().removeprefix("models/")
        if bool(equals) != bool(_NAME.fullmatch(name)):
            raise ValueError(f"{_EXPECTED}; the item {item!r} is none")
        limit = _seconds(seconds, item)
        if name in found:
            raise ValueError(f"{_EXPECTED}; the item {item!r} is there twice")
        found[name] = limit
    return Limits(found.pop("", general), found)


def _seconds(text: str, item: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"{_EXPECTED}; the item {item!r} has no number of seconds from above 0 to {LONGEST:,.0f}")
    return seconds


@dataclass(frozen=True, slots=True)
class Stalls:
    """What counts as a stall: too long a wait for the first token, or between two."""

    first_token: Limits = Limits(60.0)
    token: Limits = Limits(30.0)

    @property
    def longest(self) -> float:
        """The longest silence that is no stall, in seconds."""
        return max(self.first_token.longest, self.token.longest)


class Heard:
    """A provider as one attempt hears it: who is silent for too long is cut off, and the attempt may be tried again.

    Any piece of the answer is a token, a thought too. A message without one ends no wait for the first token, but shows
    that somebody is there: the wait begins anew.
    """

    def __init__(self, provider: Source, stalls: Stalls, attempt: Attempt) -> None:
        self._provider = provider
        self._stalls = stalls
        self._attempt = attempt
        self._model = ""
        self._spoken = False
        self._waiting = False
        self._since = 0.0
        self._cut = False
        self._timer: asyncio.TimerHandle

    async def stream(self, request: ProviderRequest, route: Route) -> AsyncGenerator[Chunk, None]:
        """Yield the provider's chunks.

        Raises:
            ProviderError: the provider's, or `first_token_timeout`, `token_timeout`.
        """
        self._model = request.model
        answer = self._provider.stream(request, route)
        del request  # a large one would stay in memory until the answer's end
        clock = asyncio.get_running_loop().time
        async with aclosing(answer) as chunks:
            with self._watched():
                async for chunk in chunks:
                    self._hear(chunk)
                    yield chunk
                    self._since, self._waiting = clock(), True

    async def upload(self, data: bytes, mime_type: str, route: Route) -> str:
        """Upload as the provider does, however long it takes."""
        return await self._provider.upload(data, mime_type, route)

    async def discard(self, uri: str, route: Route) -> None:
        """Delete an upload as the provider does."""
        await self._provider.discard(uri, route)

    def _hear(self, chunk: Chunk) -> None:
        if self._cut:
            raise asyncio.CancelledError  # somebody swallowed it
        self._waiting = False
        self._spoken = self._spoken or bool(chunk.entries)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn the cancellation of a wait that lasted too long into an error, as asyncio.timeout does.

        One timer for all waits of an answer: a timeout for each costs more than all else that is done with a chunk.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a generator is iterated in a task
        cancels = task.cancelling()
        self._since, self._waiting = asyncio.get_running_loop().time(), True
        self._look(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._cut or task.uncancel() > cancels:
                raise
            raise self._stalled() from None
        finally:
            self._timer.cancel()
        if self._cut:
            task.uncancel()
            raise self._stalled()

    def _look(self, task: asyncio.Task[object]) -> None:
        """End a wait that has lasted too long, by what is the limit now."""
        loop = asyncio.get_running_loop()
        now, limit = loop.time(), self._limit()
        left = self._since + limit - now if self._waiting else limit
        if left <= 0:
            self._cut = True
            task.cancel()
        else:
            self._timer = loop.call_at(now + min(left, LOOK), self._look, task)

    def _limit(self) -> float:
        limits = self._stalls.token if self._spoken else self._stalls.first_token
        return limits.of(self._model, self._attempt.lane)

    def _stalled(self) -> ProviderError:
        code, what = ("token_timeout", "further") if self._spoken else ("first_token_timeout", "first")
        setting = f"GENQUEUE_{code.upper()}"
        message = f"the provider sent no {what} token within {self._limit():g} s, as {setting} allows"
        return ProviderError(code, message, retryable=True)
