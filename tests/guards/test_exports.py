"""What `import genqueue` offers, and what it costs."""

import subprocess
import sys

import genqueue

HEAVY = ("google", "httpx", "starlette", "celery.worker", "msgspec", "uvloop", "genqueue_worker", "genqueue_lab")


def test_exports_are_sorted_few_and_there():
    """At most 15 names, sorted, each of them defined."""
    assert genqueue.__all__ == sorted(set(genqueue.__all__))
    assert len(genqueue.__all__) <= 15
    assert all(hasattr(genqueue, name) for name in genqueue.__all__)


def test_import_is_light():
    """A service that uses the SDK loads nothing of the worker, the gateway or a vendor."""
    listing = [sys.executable, "-c", "import sys; from genqueue import *; print(*sys.modules)"]
    loaded = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    assert "genqueue.client" in loaded
    assert not [name for name in loaded if name.startswith(tuple(f"{heavy}." for heavy in HEAVY)) or name in HEAVY]
