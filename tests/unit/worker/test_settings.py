"""A worker's own settings."""

import base64
import os
import re
import subprocess
import sys
import traceback

import pytest

from genqueue.errors import SettingsError
from genqueue_worker.settings import WorkerSettings, process_name

SECRET = "pa55" + "word"  # in two parts: a traceback shows lines of this file


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith(("GENQUEUE_", "GEMINI_", "OPENAI_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["gemini_ca_file", "openai_ca_file", "vertex_credentials", "models_file"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    """Before any job fails of it."""
    with pytest.raises(
        SettingsError, match=rf"GENQUEUE_{name.upper()}: got .*expected a readable (PEM|JSON|TOML) file"
    ):
        WorkerSettings.load(**{name: tmp_path / "missing"})


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


@pytest.mark.parametrize(
    "url", ["banana", "ftp://h", "https://", "https://h:port", "https://h:99999", "https://[h", "https://h/?alt=sse"]
)
def test_an_endpoint_nobody_can_ask_is_refused(url):
    """When the settings are read, not by the first request."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_GEMINI_BASE_URL: got .*expected a URL such as https://"):
        WorkerSettings.load(gemini_base_url=url)
    assert WorkerSettings.load(gemini_base_url="https://h:1/proxy/").gemini_base_url == "https://h:1/proxy/"


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
    """The host and the process are in it, and what tells apart two hosts of one name; it stays the same."""
    settings = WorkerSettings.load(worker_name="night")
    name = process_name(settings)
    assert re.fullmatch(rf"night@.+:[0-9a-f]{{6}}:{os.getpid()}", name)
    assert process_name(settings) == name
    code = "from genqueue_worker import settings; print(settings._BIRTHMARK)"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert f":{other}:" not in name


WHSEC = "whsec_" + "A" * 32


def test_webhook_secrets_are_keys_and_never_shown(monkeypatch):
    """Several while they are rotated; a wrong one is not repeated."""
    monkeypatch.setenv("GENQUEUE_WEBHOOK_SECRETS", f"{WHSEC}, whsec_{'B' * 64}")
    settings = WorkerSettings.load()
    assert settings.webhook_keys == (bytes(24), base64.b64decode("B" * 64))
    assert WHSEC not in repr(settings)
    assert WorkerSettings.load(webhook_secrets=None).webhook_keys == ()


@pytest.mark.parametrize("secret", ["A" * 32, "whsec_" + SECRET, "whsec_" + "A" * 28, "whsec_" + "A" * 88])
def test_a_wrong_webhook_secret_is_not_repeated(monkeypatch, secret):
    """Not its form, and not its length."""
    monkeypatch.setenv("GENQUEUE_WEBHOOK_SECRETS", secret)
    with pytest.raises(SettingsError, match="GENQUEUE_WEBHOOK_SECRETS") as raised:
        WorkerSettings.load()
    assert secret not in "".join(traceback.format_exception(raised.value))


def test_webhook_networks(monkeypatch):
    """A list, of both families; what is none is named."""
    monkeypatch.setenv("GENQUEUE_WEBHOOK_NETWORKS", "10.0.0.0/8, fd00::/8,")
    assert [str(network) for network in WorkerSettings.load().webhook_addresses] == ["10.0.0.0/8", "fd00::/8"]
    assert WorkerSettings.load(webhook_networks="").webhook_addresses == ()
    with pytest.raises(SettingsError, match="GENQUEUE_WEBHOOK_NETWORKS: got"):
        WorkerSettings.load(webhook_networks="10.0.0.1/8")


def test_silences_are_seconds_by_model_and_lane(monkeypatch):
    """Numbers alone are taken in code too; what is said nowhere is as by default."""
    monkeypatch.setenv("GENQUEUE_FIRST_TOKEN_TIMEOUT", "gemini-2.5-pro=120")
    stalls = WorkerSettings.load(token_timeout=5).stalls
    assert stalls.first_token.of("gemini-2.5-pro", "low") == 120
    assert stalls.first_token.of("gemini-2.5-flash", "low") == 60
    assert stalls.token.of("gemini-2.5-pro", "low") == 5
    assert stalls.longest == 120


def test_a_wrong_silence_is_named_at_the_start(monkeypatch):
    """The variable and the item."""
    monkeypatch.setenv("GENQUEUE_TOKEN_TIMEOUT", "30,high=soon")
    with pytest.raises(SettingsError, match=r"^GENQUEUE_TOKEN_TIMEOUT: got .*the item 'high=soon' has no number"):
        WorkerSettings.load()
