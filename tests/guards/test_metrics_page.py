"""The page of metrics is what a worker serves."""

from genqueue_lab.metrics_page import PAGE, main, page
from genqueue_worker.telemetry import METRICS, Telemetry


def test_page_is_what_the_metrics_say():
    """`python -m genqueue_lab.metrics_page` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()
    assert main(["--check"]) == 0


def test_a_worker_serves_every_metric_of_the_page():
    """With the type that is told there, and none of genqueue's own besides."""
    lines = Telemetry().text().decode().splitlines()
    told = dict(line.split()[2:] for line in lines if line.startswith("# TYPE genqueue_"))
    own = {name: kind for name, kind in told.items() if not name.endswith("_created")}
    assert own == {metric.name: metric.kind for metric in METRICS}
