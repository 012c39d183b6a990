"""What an install brings is enough: the environment of the tests has more, and would hide what is missing."""

import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WORKER = "genqueue_worker.app, genqueue_worker.cli, flower.command, kombu.transport.redis"


def brought(name, extras, seen):
    """Return the distributions that installing one with some extras brings."""
    for need in map(Requirement, metadata.requires(name) or ()):
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if wanted and key not in seen:
            seen.add(key)
            brought(need.name, need.extras, seen)
    return {name for name, _ in seen}


@pytest.mark.parametrize(("extra", "modules"), [("", "genqueue, kombu.transport.redis"), ("worker", WORKER)])
def test_install_brings_what_is_needed(extra, modules):
    """The SDK, or a worker and Flower, load with nothing but the distributions they depend on."""
    there = brought("genqueue", (extra,), set()) | {"genqueue"}
    owners = metadata.packages_distributions().items()
    hidden = [top for top, names in owners if not there & {canonicalize_name(name) for name in names}]
    assert "pytest" in hidden
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import {modules}"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
