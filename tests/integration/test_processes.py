"""One client in several processes, on several loops and in greenlets, each in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("process_programs.py")


@pytest.mark.parametrize("program", ["forked", "preloaded", "loops", "greenlets"])
def test_a_client_works_wherever_it_gets_to(database_url, prefix, program):
    """Copied by a fork, used on one loop after the other, or patched: every event comes, and nothing is left behind."""
    command = [
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error::ResourceWarning",
        str(PROGRAMS),
        program,
        database_url,
        prefix,
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ResourceWarning" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
