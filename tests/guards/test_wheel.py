"""What the wheel will hold: hatchling takes a package's folder whole, but for what git ignores."""

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]


def test_wheel_has_every_package_whole():
    """Every package of the source roots is named, typed, and has its Lua scripts; none of its files is ignored."""
    found = {
        str(path.parent.relative_to(ROOT))
        for top in ("producers", "workers", "ops")
        for path in ROOT.glob(f"{top}/*/__init__.py")
    }
    assert found == set(PACKAGES)
    assert all((ROOT / package / "py.typed").exists() for package in PACKAGES)
    assert len(list((ROOT / "producers/genqueue/lua").glob("*.lua"))) >= 9
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    files = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in {".py", ".lua", ".typed"}
    ]
    parts = {part for path in files for part in path.relative_to(ROOT).parts}
    assert not [part for part in parts for pattern in ignored if fnmatch.fnmatch(part, pattern)]
