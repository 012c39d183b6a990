"""A worker's own settings."""

import os
import traceback

import pytest

from genqueue.errors import SettingsError
from genqueue_worker.settings import WorkerSettings, process_name

SECRET = "pa55" + "word"  # in two parts: a traceback shows lines of this file


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith(("GENQUEUE_", "GEMINI_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("variable", ["GENQUEUE_GEMINI_API_KEY", "GEMINI_API_KEY"])
def test_the_key_is_read_under_both_names_and_never_shown(monkeypatch, variable):
    """Ours and the vendor's own."""
    monkeypatch.setenv(variable, SECRET)
    settings = WorkerSettings.load()
    assert settings.gemini_api_key.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


def test_all_problems_are_told_at_once(monkeypatch, tmp_path):
    """Those of the SDK's settings among them, and no secret."""
    monkeypatch.setenv("GENQUEUE_SLOTS", "0")
    monkeypatch.setenv("GENQUEUE_LANES", "high,urgent")
    monkeypatch.setenv("GENQUEUE_PARTITIONS", "0")
    monkeypatch.setenv("GENQUEUE_DRAIN_TIMEOUT", "-1")
    monkeypatch.setenv("GENQUEUE_GEMINI_CA_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("GENQUEUE_BROKER_URL", f"amqp://me:{SECRET}@h")
    with pytest.raises(SettingsError) as raised:
        WorkerSettings.load(gemini_api_key=SECRET.encode() + b"\xff")
    told = {problem.partition(":")[0] for problem in raised.value.problems}
    names = ("SLOTS", "LANES", "PARTITIONS", "DRAIN_TIMEOUT", "GEMINI_CA_FILE", "BROKER_URL", "GEMINI_API_KEY")
    assert told == {f"GENQUEUE_{name}" for name in names}
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert "'high,urgent'" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "lanes"),
    [("high", ("high",)), (" low , 1,high ", ("low", "high")), ("high,normal,low,", ("high", "normal", "low"))],
)
def test_lanes_are_a_list_in_one_variable(monkeypatch, text, lanes):
    """By name or number, each once, in the order given."""
    monkeypatch.setenv("GENQUEUE_LANES", text)
    assert WorkerSettings.load().consumed_lanes == lanes


def test_no_lane_at_all_is_a_mistake():
    """A worker that consumes nothing is not what anybody wants."""
    with pytest.raises(SettingsError, match="GENQUEUE_LANES"):
        WorkerSettings.load(lanes=" , ")


def test_leases_are_by_lane_and_in_milliseconds():
    """The urgent lane recovers sooner."""
    assert WorkerSettings.load(lease_high=2.5, lease_other=20).lease_ms == {
        "high": 2500,
        "normal": 20_000,
        "low": 20_000,
    }


def test_a_process_has_a_name_of_its_own():
    """The host and the process are in it."""
    name = process_name(WorkerSettings.load(worker_name="night"))
    assert name.startswith("night@")
    assert name.endswith(f":{os.getpid()}")
