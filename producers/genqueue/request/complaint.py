"""What pydantic complains about, in this package's own error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genqueue.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError


def invalid(error: ValidationError, within: str = "") -> InvalidRequest:
    """Return the InvalidRequest for pydantic's first complaint, naming the field `within` as the caller wrote it."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidRequest):
        return cause
    path = path_of(within, (step for step in first["loc"] if not str(step).startswith(("constrained-", "function-"))))
    if first["type"] == "extra_forbidden":
        expected = "a field of GenerationConfig or JobOptions: there is none of this name"
        return InvalidRequest(path, first["input"], expected)
    if first["type"] == "missing":
        return InvalidRequest(path, None, "a value: it is required")
    return InvalidRequest(path, first["input"], _expected(first["type"], first["msg"]))


def _expected(kind: str, message: str) -> str:
    """Return what a field is to be, in pydantic's words where they say it."""
    if kind == "int_parsing_size":
        return "a whole number of at most 64 bits"
    expected = message.removeprefix("Value error, ").removeprefix("Input should be ")
    for theirs, ours in (("should have", "of"), ("should match", "of"), (" after validation", "")):
        expected = expected.replace(theirs, ours)
    return expected[0].lower() + expected[1:]


def path_of(root: str, steps: Iterable[object]) -> str:
    """Return a field's path: names joined by dots, places in lists in brackets."""
    path = root
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.removeprefix(".")
