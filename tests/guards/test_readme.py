"""The README's code."""

import json
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
#: Runs blocks one after the other in one namespace.
RUNNER = """
import json, sys
scope = {"__name__": "__main__"}
for block in json.load(sys.stdin):
    exec(compile(block, "README.md", "exec"), scope)
"""


def blocks():
    """Return the README's Python as (marks, code), each line where it is in the README."""
    text = README.read_text()
    found = re.finditer(r"^```python(.*)\n((?s:.*?))^```", text, re.MULTILINE)
    return [(block[1], "\n" * text.count("\n", 0, block.start(2)) + block[2]) for block in found]


def test_python_of_the_readme_runs(deployment):
    """The README's Python runs, in order, against a server, a worker and the emulator; `no-run` only compiles."""
    assert blocks(), "README.md shows no Python"
    assert all(compile(code, "README.md", "exec") for _, code in blocks())
    run = json.dumps([code for marks, code in blocks() if "no-run" not in marks])
    python = [sys.executable, "-W", "error", "-c", RUNNER]
    done = subprocess.run(python, input=run, env=deployment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
