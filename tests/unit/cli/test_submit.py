"""The arguments of `genqueue submit`, before any server is asked."""

import pytest
from click.testing import CliRunner

from genqueue.cli import main

#: No server listens there; whoever gets that far has passed every check.
NOWHERE = {"GENQUEUE_DATA_URL": "redis://127.0.0.1:1/0"}


def submit(*arguments, piped=""):
    """Return how the command ended."""
    return CliRunner(env=NOWHERE).invoke(main, ["submit", *arguments], input=piped)


@pytest.mark.parametrize(
    ("arguments", "piped", "words"),
    [
        (["-"], b"a\xff", "stdin is not UTF-8 text (byte 0xff at position 1)"),
        ([], b"", "stdin is empty"),
        (["-"], b"\r\n\n", "stdin is empty"),
        (["x", "--config", "{"], "", "not JSON"),
        (["x", "--config", "[1]"], "", "expected a JSON object"),
        (["x", "--cache", "maybe"], "", "maybe"),
        ([""], "", "a text that is not empty"),
        (["x", "--lane", "turbo"], "", "high, normal, low"),
        (["x", "--temperature", "9"], "", "config.temperature"),
        (["x", "--config", '{"tempature": 1}'], "", "config.tempature"),
        (["x", "--temperature", "1", "--config", '{"temperature": 1}'], "", "not in both"),
        (["x", "--deadline", "0"], "", "deadline"),
    ],
)
def test_wrong_arguments_are_named(arguments, piped, words):
    """The exit status is 2, and nothing is on stdout."""
    ended = submit(*arguments, piped=piped)
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert ended.stdout == ""


def test_a_missing_text_on_a_terminal_is_a_usage_error(monkeypatch):
    """Nobody waits for input that was not announced."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _stream: True, raising=False)
    ended = submit()
    assert ended.exit_code == 2
    assert "TEXT is missing" in ended.stderr


def test_a_server_that_is_away_is_one_line():
    """The exit status is 1."""
    ended = submit("hello")
    assert ended.exit_code == 1
    assert ended.stderr.startswith("error: the data server at 127.0.0.1:1/0 is not available")
    assert len(ended.stderr.splitlines()) == 1


def test_every_wrong_setting_has_its_line():
    """The exit status is 2."""
    wrong = {"GENQUEUE_DATA_URL": "nonsense", "GENQUEUE_PARTITIONS": "0"}
    ended = CliRunner(env=wrong).invoke(main, ["submit", "x"])
    assert ended.exit_code == 2
    assert [line.split(":")[1].strip() for line in ended.stderr.splitlines()] == list(wrong)
