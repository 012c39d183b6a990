"""What no source file may hold."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for top in ("producers", "workers", "ops", "tests")
    for path in sorted((ROOT / top).rglob("*.*"))
    if path.suffix in {".py", ".lua", ".md"}
]


def test_environment_is_read_by_settings_alone():
    """Only the settings modules, and the lab for its child processes, look at the process's environment."""
    shipped = [
        path for path in SOURCES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in {"producers", "workers"}
    ]
    assert len(shipped) > 30
    readers = [
        path
        for path in shipped
        if re.search(r"\b(environb?\b|getenv)", path.read_text()) and path.name != "settings.py"
    ]
    assert not readers


def test_nothing_is_left_to_do():
    """No file puts work off."""
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XXX|HA" + r"CK)\b")
    assert not [path for path in SOURCES if path != Path(__file__) and marks.search(path.read_text())]
