"""`genqueue bench sizes`, and the page that has its figures."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from genqueue.options import JobOptions
from genqueue.settings import PREFIX, Settings
from genqueue_lab import sizing
from genqueue_lab.bench import sizes as command
from genqueue_worker.settings import WorkerSettings

PAGE = Path(__file__).parents[2] / "ops" / "sizing.md"


@pytest.fixture(scope="module")
def measured():
    """Measure, in an environment that must not be touched, as many jobs as outweigh the server's own buffers."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GENQUEUE_KEY_PREFIX", "another")
        environment.setenv("GENQUEUE_BROKER_URL", "redis://127.0.0.1:1/0")
        return list(sizing.measure(40, 40))


def test_each_state_is_measured_key_by_key(measured):
    """Bytes of a job are its keys' and little else, and a stream costs more where nodes are large."""
    assert len(measured) == 16
    by_place = {(size.state, size.prompt, size.nodes): size for size in measured}
    for size in measured:
        assert 0.5 * sum(size.keys.values()) < size.used < 2 * sum(size.keys.values()) + 10_000
    queued = by_place["queued", "small", "512"]
    assert queued.keys["events"] < 1_500
    assert by_place["queued", "small", "default"].keys["events"] > 4_000
    assert by_place["queued", "10 KB", "512"].keys["flight"] - queued.keys["flight"] == pytest.approx(10_000, rel=0.3)
    assert by_place["running", "small", "512"].keys["events"] > 10_000
    assert "broker" in queued.keys
    finished, expired = by_place["finished", "small", "512"], by_place["expired", "small", "512"]
    assert {"events", "cache"} <= finished.keys.keys()
    assert "events" not in expired.keys
    assert expired.used < finished.used


def test_the_command_prints_a_table_or_json(measured, monkeypatch):
    """One row for each state and prompt; one JSON object for each measurement."""
    monkeypatch.setattr(command, "measure", lambda *_: measured)
    rows = CliRunner().invoke(command.sizes, ["--quick"]).stdout.splitlines()
    assert len(rows) == 2 + 8
    assert rows[2].startswith("| queued | small | ")
    printed = CliRunner().invoke(command.sizes, ["--json"]).stdout.splitlines()
    assert [json.loads(line)["state"] for line in printed] == [size.state for size in measured]


def test_the_page_has_the_defaults_as_they_are():
    """Every setting it names has the default it says, and every option is one of a job's."""
    rows = re.findall(r"^\| .* \| (\d+)[^|]*\| `(\w+)` \|([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    defaults = {**Settings.model_fields, **WorkerSettings.model_fields}
    assert len(rows) > 12
    for value, variable, option in rows:
        assert defaults[variable.removeprefix(PREFIX).lower()].default == float(value), variable
        assert set(re.findall(r"`(\w+)", option)) <= JobOptions.model_fields.keys()
    named = {variable for _, variable, _ in rows}
    kept = {name for name in Settings.model_fields if name.endswith("_ttl") or name.startswith(("deadline_", "max_"))}
    assert {PREFIX + name.upper() for name in kept} <= named


def test_the_page_has_a_measured_row_for_each_state():
    """As the command prints them."""
    text = PAGE.read_text()
    for state in sizing._STATES.values():
        for prompt in sizing.PROMPTS:
            assert re.search(rf"^\| {state} \| {prompt} \| [\d,]+ \| [\d,]+ \|", text, re.MULTILINE), (state, prompt)
