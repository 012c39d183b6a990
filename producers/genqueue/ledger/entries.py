"""Entries of a stream as the scripts take them: flat lists of fields and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Value: TypeAlias = str | bytes | int
#: The fields of one event, "type" among them; v, attempt and n are added by the server.
Entry: TypeAlias = Mapping[str, Value]

#: Most entries, and most characters of their fields unless a single one has more, that one call carries: the server
#: serves nobody else while it writes them.
SLICE_COUNT: Final = 1000
SLICE_SIZE: Final = 1024 * 1024


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
    """Return how many entries there are, then for each how many values, and the values."""
    found: list[Value] = [len(entries)]
    for entry in entries:
        found.append(2 * len(entry))
        if next(iter(entry)) == "type":
            for pair in entry.items():
                found += pair
        else:
            found += flat(entry)
    return found


def first_slice(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return as many of the first entries as one call carries, at least one when there are any.

    Whoever has more appends them slice by slice, each behind what the reply says is written, and settles with the last.
    """
    size = 0
    for count, entry in enumerate(entries):
        size += sum([len(value) for value in entry.values() if not isinstance(value, int)])
        if count == SLICE_COUNT or (count and size > SLICE_SIZE):
            return entries[:count]
    return entries
