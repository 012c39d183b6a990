"""The benchmarks run, on few samples, and tell what they should."""

import json

import pytest
from click.testing import CliRunner

from genqueue_lab.bench import tails
from genqueue_lab.bench.command import bench


@pytest.mark.parametrize(("control", "limit", "status"), [(False, 1e6, 0), (False, -1e6, 1), (True, -1e6, 1)])
def test_the_tails_are_measured(monkeypatch, control, limit, status):
    """With bells or, as the control, without; the exit status is the verdict's."""
    monkeypatch.setattr(tails, "LIMITS", {3: limit})
    monkeypatch.setattr(tails, "SAMPLES", 20)
    monkeypatch.setattr(tails, "RATE", 1000)
    ran = CliRunner().invoke(bench, ["tails", "--quick", "--json", *(["--control"] if control else [])])
    assert ran.exit_code == status, ran.output
    report = json.loads(ran.output)
    (row,) = report["rows"]
    assert report["readers"] == ("xread" if control else "bells")
    assert 0 < row["round_trip"] < row["to_reader"]
    assert row["added"]["low"] <= row["added"]["value"] <= row["added"]["high"]
