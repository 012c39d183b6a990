"""The direction of imports."""

import shutil
import subprocess
import sys
from pathlib import Path


def test_import_contracts_hold(tmp_path):
    """Every import-linter contract of pyproject.toml is kept."""
    linter = shutil.which("lint-imports", path=Path(sys.executable).parent)
    command = [linter, "--no-cache", "--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
