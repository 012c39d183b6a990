"""What a benchmark says at its end."""

import pytest

from genqueue_lab.bench import chart
from genqueue_lab.bench.report import Promise, Report
from genqueue_lab.bench.verdict import Estimate

KEPT, BROKEN = Promise("kept", Estimate(1, 0.5, 1.5), 2.0), Promise("broken", Estimate(1, 0.5, 1.5), 2.0, at_least=True)


@pytest.mark.parametrize(
    ("promises", "void", "holds"),
    [((KEPT,), None, True), ((KEPT, BROKEN), None, False), ((KEPT,), "the emulator was late", None)],
)
def test_a_report_holds_when_all_promises_do(promises, void, holds):
    """A void one says neither."""
    report = Report("name", promises, {"a": {"p50": 1.0}, "b": {"p99": {"value": 1, "low": 0, "high": 2}}}, void=void)
    assert report.as_json()["holds"] is holds
    assert [promise["holds"] for promise in report.as_json()["promises"]] == [one is KEPT for one in promises]
    assert "1.00 [0.00, 2.00]" in report.text()


def test_a_chart_is_a_picture(monkeypatch, tmp_path):
    """In the repository it goes to ops/bench."""
    monkeypatch.setattr(chart, "_ROOT", tmp_path / "ops")
    (tmp_path / "ops").mkdir()
    path = chart.save("lines", lambda axes: axes.plot([1, 2], [3, 4]))
    assert path == tmp_path / "ops" / "bench" / "lines.png"
    assert path.read_bytes().startswith(b"\x89PNG")
