"""Where processes run, and what they use."""

import os
import subprocess
import sys

import pytest

from genqueue_lab.bench.cores import Cores, cpu_seconds, family, resident_bytes


@pytest.fixture
def child():
    """Return a process that has a child, both waiting."""
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(0, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


def test_a_process_is_measured_with_its_descendants(child):
    """Those that are gone count nothing."""
    members = family(child.pid)
    assert child.pid in members
    assert len(members) == 2
    assert cpu_seconds(members) > 0
    assert resident_bytes(members) > resident_bytes({child.pid}) > 0
    assert cpu_seconds({2**22 + 1}) == 0


@pytest.mark.skipif(not Cores().apart, reason="there is one core")
def test_load_and_work_are_apart(child):
    """What is started in a block stays on its core, and may be put elsewhere."""
    cores, before = Cores(), os.sched_getaffinity(0)
    with cores.at_work():
        assert os.sched_getaffinity(0) == cores.work
    assert os.sched_getaffinity(0) == before
    cores.return_to_load(child.pid)
    assert all(os.sched_getaffinity(pid) == cores.load for pid in family(child.pid))
    cores.lend(child.pid)
    assert os.sched_getaffinity(child.pid) == cores.load | cores.work
