"""Calls of functions, put together from their pieces. Pure: no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from genqueue_worker.providers.openai_wire import CallDelta, Function


@dataclass(slots=True)
class Call:
    """One call so far; its arguments are JSON only once it is complete."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def take(self, function: Function | None) -> None:
        """Add a piece; some servers give the name again with each."""
        if function is None:
            return
        if function.name and function.name != self.name:
            self.name += function.name
        if isinstance(function.arguments, dict):
            self.arguments.append(msgspec.json.encode(function.arguments).decode())
        elif function.arguments:
            self.arguments.append(function.arguments)

    def goes_on_in(self, piece: CallDelta) -> bool:
        """Return whether a piece of the same index is of this call, and not of another that is told apart by less."""
        if piece.id and self.id:
            return piece.id == self.id
        name = piece.function.name if piece.function is not None else None
        if not name or not self.name:
            return True
        if piece.index is None:
            return False
        return name == self.name or not self.arguments

    def part(self) -> dict[str, Any] | None:
        """Return Gemini's part for the call; None when its arguments are no object."""
        text = "".join(self.arguments)
        try:
            args = msgspec.json.decode(text) if text.strip() else {}
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        if not isinstance(args, dict):
            return None
        call: dict[str, Any] = {"name": self.name, "args": args}
        return {"functionCall": {"id": self.id, **call} if self.id else call}

    def __str__(self) -> str:
        return f"{self.name}({''.join(self.arguments)})"


class Calls:
    """The calls of one choice, by the index their pieces carry."""

    def __init__(self) -> None:
        self._calls: dict[int, list[Call]] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, pieces: list[CallDelta]) -> None:
        """Add pieces.

        One without an index, as some servers send whole calls, belongs to the last call unless it brings another id or
        a name of its own; another id at a known index is another call too, and so is another name behind arguments.
        """
        for piece in pieces:
            index = self._last if piece.index is None else piece.index
            self._last = index
            calls = self._calls.setdefault(index, [])
            if not calls or not calls[-1].goes_on_in(piece):
                calls.append(Call())
            calls[-1].id = calls[-1].id or piece.id or ""
            calls[-1].take(piece.function)

    def take_only(self, function: Function) -> None:
        """Add a piece of the one call that there was before there were several."""
        self.take([CallDelta(index=0, function=function)])

    def __iter__(self) -> Iterator[Call]:
        for index in sorted(self._calls):
            yield from self._calls[index]
