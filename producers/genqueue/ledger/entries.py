"""Entries of a stream as the scripts take them: flat lists of fields and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Value: TypeAlias = str | bytes | int
#: The fields of one event, "type" among them; v, attempt and n are added by the server.
Entry: TypeAlias = Mapping[str, Value]


def text(value: Value) -> str:
    """Return a reply's value as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def flat(entry: Entry) -> Iterable[Value]:
    """Yield an entry's fields and values, `type` first."""
    yield "type"
    yield entry["type"]
    for name, value in entry.items():
        if name != "type":
            yield name
            yield value


def flat_entries(entries: Sequence[Entry]) -> Iterable[Value]:
    """Yield how many entries there are, then for each how many values, and the values."""
    yield len(entries)
    for entry in entries:
        yield 2 * len(entry)
        yield from flat(entry)
