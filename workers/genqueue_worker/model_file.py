"""The file with a deployment's model table, read and checked; all that is wrong with it is told at once."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, cast

from genqueue.errors import SettingsError
from genqueue_worker.model_table import KINDS, NEEDED, Entries, ModelTable, matching
from genqueue_worker.providers.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from genqueue_worker.providers.seam import Kind

_TABLES: Final = ("models", "aliases", "fallbacks")

#: A model's name as providers spell them, and one with asterisks.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,254}", re.ASCII)
_PATTERN: Final = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._:@/*-]{0,254}", re.ASCII)

#: What stands for any model: it takes no name away from anybody.
_ANY: Final = "*"


def read_table(path: Path | None, configured: Collection[Kind]) -> ModelTable:
    """Return the model table: what is built in, and what a file adds and overrides.

    Args:
        path: of a TOML file; None for what is built in alone.
        configured: kinds of provider that can be asked.

    Raises:
        SettingsError: with each problem of the file: table, key, and what is expected.
    """
    if path is None:
        return ModelTable(configured)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(path, [f"expected a TOML file ({error})"]) from error
    problems = list(_misspelled(document))
    if problems:
        raise _wrong(path, problems)
    table = ModelTable(configured, _entries(document))
    problems = [*_unserved_patterns(document, table), *_bad_aliases(document, table), *_bad_fallbacks(document, table)]
    if problems:
        raise _wrong(path, problems)
    return table


def _wrong(path: Path, problems: list[str]) -> SettingsError:
    return SettingsError([f"GENQUEUE_MODELS_FILE: {path}: {problem}" for problem in problems])


def _entries(document: Mapping[str, Any]) -> Entries:
    fallbacks = {name: tuple(others) for name, others in document.get("fallbacks", {}).items()}
    return Entries(document.get("models", {}), document.get("aliases", {}), fallbacks)


def _misspelled(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not of the form of a table."""
    for name, table in document.items():
        if name not in _TABLES:
            yield f"[{name}]: no such table, expected {', '.join(f'[{known}]' for known in _TABLES)}"
        elif not isinstance(table, dict):
            yield f"[{name}]: got {table!r}, expected a table"
        else:
            for key, value in table.items():
                expected = _expected(name, key, value)
                if expected:
                    yield f"[{name}] {key!r}: {expected}"


def _expected(table: str, key: str, value: object) -> str:
    """Return what is expected of a table's line instead, "" when it is well formed."""
    if table == "models":
        if not _PATTERN.fullmatch(key):
            return "expected a model's name, in which * may stand for anything"
        return "" if value in KINDS else f"got {value!r}, expected one of {', '.join(KINDS)}"
    if not _NAME.fullmatch(key):
        return "expected a model's name" if table == "fallbacks" else "expected a name"
    if table == "aliases":
        return "" if _is_name(value) else f"got {value!r}, expected a model's name"
    named = isinstance(value, list) and value and all(map(_is_name, value))
    return "" if named else f"got {value!r}, expected a list of models' names"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def _unserved_patterns(document: Mapping[str, Any], table: ModelTable) -> Iterator[str]:
    for pattern, kind in document.get("models", {}).items():
        if kind not in table.configured:
            needed = NEEDED[cast("Kind", kind)]
            yield f"[models] {pattern!r}: {kind} is not configured, expected {needed} to be set"


def _bad_aliases(document: Mapping[str, Any], table: ModelTable) -> Iterator[str]:
    patterns = [pattern for pattern in table.entries.models if pattern != _ANY]
    for alias in document.get("aliases", {}):
        shadowed = next((pattern for pattern in patterns if matching(pattern).fullmatch(alias)), None)
        if shadowed is not None or alias.partition("/")[0] in KINDS:
            what = f"models of the pattern {shadowed!r}" if shadowed else "a model named with its provider"
            yield f"[aliases] {alias!r}: it hides {what}, expected a name that is no model's"
        elif table.meant(alias) in table.entries.aliases:
            yield f"[aliases] {alias!r}: it leads in a circle, expected it to lead to a model"
        else:
            yield from _unserved(f"[aliases] {alias!r}", alias, table)


def _bad_fallbacks(document: Mapping[str, Any], table: ModelTable) -> Iterator[str]:
    for name, others in document.get("fallbacks", {}).items():
        where = f"[fallbacks] {name!r}"
        if name in table.entries.aliases:
            yield f"{where}: it is an alias, expected the model it leads to, {table.meant(name)!r}"
            continue
        yield from _unserved(where, name, table)
        seen = {_identity(name, table)}
        for other in others:
            if _identity(other, table) in seen:
                yield f"{where}: {other!r} is asked already, expected each model once, and not the model itself"
            else:
                yield from _unserved(where, other, table)
            seen.add(_identity(other, table))


def _unserved(where: str, said: str, table: ModelTable) -> Iterator[str]:
    try:
        table.choice(table.meant(said))
    except ProviderError as error:
        yield f"{where}: {error.message}"


def _identity(said: str, table: ModelTable) -> tuple[Kind | None, str]:
    """Return what tells models apart, however they are spelled."""
    name = table.meant(said)
    kind = table.served_by(name)
    return kind, name.removeprefix(f"{kind}/")
