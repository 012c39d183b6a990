"""The benchmarks of submitting run, on few samples, and tell what they should."""

import json

import pytest
from click.testing import CliRunner

from genqueue_lab.bench import growth, submit
from genqueue_lab.bench.command import bench


@pytest.mark.parametrize(("control", "times", "status"), [(False, 0.0, 0), (True, 1e6, 1)])
def test_publishing_in_bulk_is_measured(monkeypatch, control, times, status):
    """Beside Celery's loop and our own; the exit status is the verdict's."""
    monkeypatch.setattr(submit, "MANY", 8)
    monkeypatch.setattr(submit, "FEW", 4)
    monkeypatch.setattr(submit, "QUICK_ROUNDS", 2)
    monkeypatch.setattr(submit, "TIMES", times)
    ran = CliRunner().invoke(bench, ["submit", "--quick", "--json", *(["--control"] if control else [])])
    assert ran.exit_code == status, ran.output
    report = json.loads(ran.stdout)
    assert set(report["figures"]) == {"apply_async", "submit", "submit_many"}
    assert all(row["us"]["value"] > 0 for row in report["figures"].values())
    assert report["holds"] is not control


def test_a_long_queue_is_measured(monkeypatch):
    """Beside a short one, with a worker each; both stay as long as they were."""
    monkeypatch.setattr(growth, "FEW", 10)
    monkeypatch.setattr(growth, "QUICK_MANY", 30)
    monkeypatch.setattr(growth, "SAMPLES", {"submit": 2, "claim": 2, "pickup": 1})
    monkeypatch.setattr(growth, "QUICK_ROUNDS", 2)
    monkeypatch.setattr(growth, "LIMIT", 1e6)
    ran = CliRunner().invoke(bench, ["growth", "--quick", "--json"])
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert list(report["figures"]) == ["10 queued", "30 queued"]
    for row in report["figures"].values():
        assert row["bytes a job"] > 500
        assert 0 < row["claim p50 ms"]["value"] <= row["claim p99 ms"]["value"]
        assert row["pickup p50 ms"]["value"] > 0
