"""What the throughput benchmark makes of its rounds."""

import pytest

from genqueue_lab.bench import throughput
from genqueue_lab.bench.throughput_sides import Cost, _is_whole


@pytest.mark.parametrize(("worker", "verdict"), [(0.002, "holds"), (0.004, "holds"), (0.005, "fails")])
def test_processor_time_decides(worker, verdict):
    """How long it took, and what the server had to do, is reported only."""
    rounds = [{"genqueue": Cost(1.0, worker, 0.1), "textbook": Cost(0.1, 0.02, 0.001)} for _ in range(5)]
    report = throughput._report(rounds, control=False)
    assert report.verdict == verdict
    assert report.figures["genqueue"]["streams_per_cpu_second"]["value"] == pytest.approx(1 / worker)
    assert report.ratios["genqueue/textbook"]["value"] == pytest.approx(0.02 / worker)


@pytest.mark.parametrize(
    ("types", "whole"),
    [
        ([b"queued", b"started", b"delta", b"delta", b"completed"], True),
        ([b"started", b"delta", b"completed"], False),
        ([b"started", b"delta", b"delta", b"completed", b"completed"], False),
        ([b"started", b"delta", b"completed", b"delta"], False),
        ([b"started", b"delta", b"delta", b"failed"], False),
        ([], False),
    ],
)
def test_an_answer_counts_when_it_is_whole(types, whole):
    """With every chunk, and one end behind them."""
    assert _is_whole(types, 2) is whole
