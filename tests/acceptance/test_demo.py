"""`genqueue demo` as a user runs it, outside a terminal."""

import re
import signal
import time

from acceptance_commands import Command

_ROW = re.compile(
    r"^\s*#(?P<number>\d) +(?P<lane>high|normal|low) +(?P<ttft>[\d.]+ m?s) +(?P<total>[\d.]+ m?s)"
    r" +(?P<tokens>\d+) +(?P<source>live|cache) +(?P<attempts>\d) *(?P<note>.*?) *$",
    re.MULTILINE,
)


def test_the_demo_plays_to_its_end():
    """Every scene comes true within a minute, the summary has a row for each job, and no process is left."""
    began = time.monotonic()
    with Command("demo") as demo:
        assert demo.finish(timeout=90) == 0, demo.output
        assert time.monotonic() - began < 60
        assert demo.traces() == []

        rows = [found.groupdict() for found in _ROW.finditer(demo.output)]
        assert [row["lane"] for row in rows] == ["low"] * 3 + ["normal"] * 2 + ["high"] * 2 + ["low", "high"]
        assert {row["tokens"] for row in rows} == {"40"}
        *answered, repeated, recovered = rows
        assert {(row["source"], row["attempts"]) for row in answered} == {("live", "1")}
        assert (repeated["source"], repeated["note"]) == ("cache", "#6 asked again")
        assert (recovered["source"], recovered["attempts"]) == ("live", "2")
        assert recovered["note"] == "worker-1 killed"
        assert re.search(r"^ .* high +#9  restarted \(lost\)", demo.output, re.MULTILINE)
        assert "\x1b" not in demo.output


def test_ctrl_c_ends_the_demo_in_mid_answer():
    """Ctrl-C while answers flow ends the demo with status 130, without a traceback, and no process is left."""
    with Command("demo") as demo:
        demo.read_until("#7  asked:")
        assert len(demo.family()) == 5  # itself, server, emulator, worker and its nursery
        demo.send(signal.SIGINT)
        assert demo.finish() == 130
        assert demo.lines[-1] == "interrupted"
        assert "Traceback" not in demo.output
        assert demo.traces() == []


def test_a_scene_that_fails_is_told():
    """A model that the provider does not know ends the demo with status 1 and the provider's words."""
    with Command("demo", "--model", "no-such-model") as demo:
        assert demo.finish() == 1
        assert "the demo failed: job" in demo.lines[-1]
        assert "models/no-such-model is not found" in demo.lines[-1]
        assert "Traceback" not in demo.output
        assert demo.traces() == []
