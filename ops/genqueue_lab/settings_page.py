"""`ops/settings.md`, written from the settings themselves: `python -m genqueue_lab.settings_page [--check]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AliasChoices, SecretStr

from genqueue.settings import PREFIX, Settings
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo

#: The page, beside the rest of the documentation.
PAGE: Final = Path(__file__).parents[1] / "settings.md"

_HEAD: Final = """# Settings

Written by `python -m genqueue_lab.settings_page` from the settings themselves; a test compares.

Each is an environment variable, read once, when a client or worker is made. In code it is a keyword argument without
the prefix: `Client(data_url="redis://...")`. An argument wins over the variable; an empty variable counts as not set.
Durations are seconds. All problems are told at once, each with its variable, its value and what is expected.
"""

#: Whose settings they are, and the class that holds them.
SECTIONS: Final = (
    ("Read by services and by workers", "Give every process of a deployment the same values.", Settings),
    ("Read by workers only", "Processes that generate, and `genqueue doctor` and `genqueue models`.", WorkerSettings),
)

_WORDS: Final[dict[object, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
}


def page() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(line for section in SECTIONS for line in _section(*section))]).rstrip() + "\n"


def _section(title: str, note: str, settings: type[Settings]) -> Iterator[str]:
    yield from (f"## {title}", "", note, "", "| variable | value | default | meaning |", "|---|---|---|---|")
    meanings = documented(settings)
    for name in settings.__annotations__:
        if name in settings.model_fields:
            yield _row(name, settings.model_fields[name], meanings[name])
    yield ""


def _row(name: str, field: FieldInfo, meaning: str) -> str:
    default = (
        "not set"
        if field.default is None
        else f"`{field.default:g}`"
        if isinstance(field.default, float)
        else f"`{field.default}`"
    )
    variable, *others = variables(name, field)
    also = "".join(f" or `{other}`" for other in others)
    cells = (f"`{variable}`{also}", kind(field), default, meaning[:1].upper() + meaning[1:])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def variables(name: str, field: FieldInfo) -> list[str]:
    """Return the environment variables that a setting is read from, the first one first."""
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices]
    return [PREFIX + name.upper()]


def documented(settings: type[Settings]) -> dict[str, str]:
    """Return what the class docstring says of each attribute; names that share a line share its words."""
    attributes = (settings.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4,8}([a-z_0-9]+(?:, [a-z_0-9]+)*): (.*(?:\n {9,}\S.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(words.split()) for names, words in entries for name in names.split(", ")}


def kind(field: FieldInfo) -> str:
    """Return what a setting's values are, with their range."""
    text = _type(field.annotation)
    bounds = [*_bounds(field.metadata), *(part for part in _parts(field.annotation) for part in _bounds(part))]
    return ", ".join([text, *bounds])


def _parts(annotation: Any) -> Iterator[Sequence[object]]:
    if hasattr(annotation, "__metadata__"):
        yield annotation.__metadata__
    for part in get_args(annotation) if get_origin(annotation) in {Union, UnionType} else ():
        yield from _parts(part)


def _type(annotation: Any) -> str:
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if get_origin(annotation) in {Union, UnionType}:
        return " or ".join(_type(part) for part in get_args(annotation) if part is not NoneType)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return _WORDS[annotation]


def _bounds(metadata: Sequence[object]) -> Iterator[str]:
    """Yield a range in words, such as "1 to 64" or "over 0"."""
    flat = [part for item in metadata for part in getattr(item, "metadata", None) or [item]]
    low = next((part.ge for part in flat if isinstance(part, annotated_types.Ge)), None)
    high = next((part.le for part in flat if isinstance(part, annotated_types.Le)), None)
    if low is not None and high is not None:
        yield f"{_number(low)} to {_number(high)}"
    elif low is not None:
        yield f"{_number(low)} or more"
    elif high is not None:
        yield f"at most {_number(high)}"
    yield from (f"over {_number(part.gt)}" for part in flat if isinstance(part, annotated_types.Gt))
    yield from (f"under {_number(part.lt)}" for part in flat if isinstance(part, annotated_types.Lt))
    yield from (f"matching `{part.pattern}`" for part in flat if getattr(part, "pattern", None))


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}" if value == 0 else f"{value:,}".removesuffix(".0")


def main(arguments: Sequence[str]) -> int:
    """Write the page; with `--check` only compare it, and return 1 when it is not what it should be."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        print(f"{PAGE} is out of date; run: python -m genqueue_lab.settings_page", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
