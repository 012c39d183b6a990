"""Settings from the environment, and what is said about wrong ones."""

import traceback

import pytest

from genqueue.errors import SettingsError
from genqueue.settings import Settings, server_name, without_credentials

SECRET = "pa55word"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    import os

    for name in os.environ:
        if name.upper().startswith("GENQUEUE_"):
            monkeypatch.delenv(name)


def test_the_environment_and_arguments_are_read(monkeypatch):
    """Arguments win over variables, variables over defaults."""
    monkeypatch.setenv("GENQUEUE_PARTITIONS", "8")
    monkeypatch.setenv("GENQUEUE_KEY_PREFIX", "mine")
    settings = Settings.load(partitions=16)
    assert (settings.partitions, settings.key_prefix, settings.max_tries) == (16, "mine", 8)
    assert settings.broker == settings.data_url
    assert Settings.load(broker_url="amqp://h").broker == "amqp://h"
    assert [settings.deadline(lane) for lane in ("high", "normal", "low")] == [600, 3600, 86_400]


def test_all_problems_are_told_at_once(monkeypatch):
    """Whoever deploys does not fix one to be told the next."""
    monkeypatch.setenv("GENQUEUE_PARTITIONS", "many")
    monkeypatch.setenv("GENQUEUE_STREAM_TTL", "inf")
    monkeypatch.setenv("GENQUEUE_KEY_PREFIX", "a b")
    monkeypatch.setenv("GENQUEUE_BROKER_URL", "nowhere")
    with pytest.raises(SettingsError) as raised:
        Settings.load(max_tries=0, data_ulr="redis://h")
    told = {problem.partition(":")[0] for problem in raised.value.problems}
    variables = ("PARTITIONS", "STREAM_TTL", "KEY_PREFIX", "BROKER_URL", "MAX_TRIES")
    assert told == {"data_ulr", *(f"GENQUEUE_{name}" for name in variables)}
    assert all(problem in str(raised.value) for problem in raised.value.problems)
    assert "'many'" in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:6379",
        "http://h:1",
        "amqp://h",
        "redis://h:port/0",
        "redis://h:99999/0",
        "redis://[h:1/0",
        "redis://h/0?db=zero",
        "redis://h/abc",
        "redis://h/1/2",
    ],
)
def test_a_data_url_nobody_can_connect_to_is_refused(url):
    """It is refused when settings are read, with the variable's name, not at the first command."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_DATA_URL: got .*redis://host:6379/0"):
        Settings.load(data_url=url)


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h/", "rediss://u:p@h:1/3?ssl_cert_reqs=required", "unix:///run/redis.sock"]
)
def test_every_usual_data_url_is_accepted(url):
    """Plain, encrypted and local ones."""
    assert Settings.load(data_url=url).data_url == url


@pytest.mark.parametrize("option", ["socket_timeout", "decode_responses", "protocol"])
def test_an_option_that_would_break_readers_is_refused_in_the_data_url(option):
    """What is a setting, or changes what replies look like, is named with the URL's variable."""
    with pytest.raises(SettingsError, match=rf"GENQUEUE_DATA_URL: got .*expected no option {option}:"):
        Settings.load(data_url=f"redis://h/0?{option}=1", broker_url="redis://h")


def test_an_option_that_kombu_does_not_take_is_refused():
    """Kombu would raise a TypeError at the first message; a data URL with one needs a broker URL without."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_BROKER_URL: got .*expected no option socket_timeout"):
        Settings.load(broker_url="redis://h/0?socket_timeout=3")
    with pytest.raises(SettingsError, match=r"BROKER_URL: got None, expected a URL of its own.*take client_name"):
        Settings.load(data_url="redis://h/0?client_name=x")
    assert Settings.load(data_url="redis://h/0?client_name=x", broker_url="redis://h/0?connect_timeout=1")


@pytest.mark.parametrize("name", ["data_url", "broker_url"])
@pytest.mark.parametrize(
    "url",
    [
        f"//me:{SECRET}@h:1",
        f"me:{SECRET}@h:1",
        f"https//me:{SECRET}@h:1",
        f"redis//{SECRET}@h",
        f"h:1?password={SECRET}",
        f"//me:#{SECRET}@h",
        f"//me:a@{SECRET}@h",
        f"//me:?{SECRET}/@h",
        f"//me:/{SECRET}\n@h",
    ],
)
def test_no_message_shows_a_password(name, url):
    """Not the error, not its problems, and not what Python prints below it."""
    with pytest.raises(SettingsError) as raised:
        Settings.load(**{name: url})
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("tail", [f"{SECRET}/x@h:1/0", f"u:{SECRET}#@h:x/0", f":{SECRET}/@h:1"])
def test_a_password_that_breaks_its_url_is_not_shown_either(tail):
    """An unescaped slash makes a piece of the password the port, which the message must not repeat."""
    with pytest.raises(SettingsError, match="percent-encoded") as raised:
        Settings.load(data_url=f"redis://me:{tail}")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("tail", [f"?{SECRET}@h", f"a?{SECRET}=1@h:1/0"])
def test_a_password_that_looks_like_an_option_is_not_shown(tail):
    """After an unescaped question mark, the rest of the password is the name of an option."""
    for name in ("data_url", "broker_url"):
        with pytest.raises(SettingsError) as raised:
            Settings.load(**{name: f"redis://me:{tail}"})
        assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"redis://me:{SECRET}@h:1/2", "h:1/2"),
        ("redis://h", "h:6379"),
        ("redis://[::1]:7/0", "::1:7/0"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        (f"redis://me:{SECRET}@h:1/0;redis://me:{SECRET}@i:2/0", "redis://***@i:2/0"),
    ],
)
def test_a_server_is_named_without_its_credentials(url, name):
    """Logs and errors name it so, whatever the URL is."""
    assert server_name(url) == name


def test_credentials_are_taken_out_of_urls():
    """What is left tells which server was meant."""
    assert without_credentials(f"redis://me:{SECRET}@h:1/0?password={SECRET}") == "redis://***@h:1/0?***"
    assert without_credentials("redis://h:1/0") == "redis://h:1/0"


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, float("nan"), float("inf"), 1e12])
def test_durations_are_what_the_server_can_keep(seconds):
    """From a millisecond to some years: 0 ms would delete what it is to keep."""
    with pytest.raises(SettingsError, match="GENQUEUE_STREAM_TTL"):
        Settings.load(stream_ttl=seconds)
    assert Settings.load(stream_ttl=0.001).stream_ttl == 0.001


def test_settings_are_frozen():
    """Nobody changes them under a running client."""
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().partitions = 5
