"""Guard: every script says what it takes and what it returns."""

import re
from importlib.resources import files

import pytest

from genqueue.scripts import SCRIPTS


@pytest.mark.parametrize("name", [script.name for script in SCRIPTS])
def test_a_script_is_headed_by_its_interface(name: str) -> None:
    """The comment a script begins with names its keys, its arguments and its replies, in that order."""
    text = (files("genqueue") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    head = re.match(r"(?:--.*\n)+", text)
    assert head is not None
    assert re.search(r"^-- .*\n(?:--.*\n)*-- KEYS: .*\n(?:--.*\n)*-- ARGV: .*\n(?:--.*\n)*-- Returns ", head[0])
