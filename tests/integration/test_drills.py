"""Drills run on real processes, small ones, and tell what they should."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genqueue_lab.drill import cut, readers
from genqueue_lab.drill.audit import wait_until
from genqueue_lab.drill.command import DRILLS
from genqueue_lab.drill.plan import Plan
from genqueue_lab.emulator import Pace


def descendants(pid):
    """Return the processes below one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def lives(pid):
    """Return whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("control", [False, True])
def test_a_drill_and_its_control(monkeypatch, control):
    """With lost commands and replies the claims hold; without tokens and numbers on appends they do not."""
    monkeypatch.setattr(cut, "WORKERS", 1)
    monkeypatch.setattr(cut, "ENOUGH", 1)
    monkeypatch.setattr(cut, "PATIENCE", 1.5 if control else 20.0)
    monkeypatch.setattr(readers, "PATIENCE", 1.5)
    monkeypatch.setattr(cut, "WORKER", {"LEASE_HIGH": 2, "LEASE_OTHER": 2, "SWEEP_SLACK": 0.5})
    monkeypatch.setattr(cut, "SHARES", {"after": 0.02})
    monkeypatch.setattr(cut, "PACE", Pace(ttft=0.05, tpot=0.02, tokens=30))
    monkeypatch.setattr(cut, "_QUICK", cut._Size(jobs=15, seconds=0.5))
    report = cut.run(Plan(print, quick=True, control=control, seed=3))
    assert report.verdict == ("fails" if control else "holds"), report.text()
    assert (report.accepted, report.doubled, report.readers) == (15, 0, 15)


def test_ctrl_c_leaves_nothing_behind():
    """Server, emulator and workers end with the command, whose status is as shells have it; nurseries see that."""
    command = [Path(sys.executable).with_name("genqueue"), "drill", "kill", "--quick"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "starting" in running.stderr.readline()
    started = descendants(running.pid)
    assert started
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert wait_until(lambda: not any(map(lives, started)), 10)


def test_every_drill_is_there():
    """Each has a module with `run`, and a sentence that tells what its control goes without."""
    for name, entry in DRILLS.items():
        assert callable(__import__(entry.module, fromlist=["run"]).run), name
        assert entry.control.endswith(".")
