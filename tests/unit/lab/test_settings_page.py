"""How a setting becomes a row of ops/settings.md."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr

from genqueue.settings import Seconds, Settings
from genqueue_lab import settings_page


class Example(Settings):
    """Settings of a test.

    Attributes:
        flavour: what it tastes of,
            on two lines.
        low, high: bounds | of something.
        secret: not to be told.
    """

    flavour: Literal["sweet", "sour"] = "sweet"
    low: Annotated[int, Field(gt=0)] = 1
    high: Annotated[float | None, Field(ge=0.5, le=2000)] = None
    secret: SecretStr | None = None
    pause: Seconds = 2.5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flavour", "one of `sweet`, `sour`"),
        ("low", "whole number, over 0"),
        ("high", "number, 0.5 to 2,000"),
        ("secret", "secret text"),
        ("pause", "number, 0.001 to 315,360,000"),
        ("key_prefix", "text, matching `^[A-Za-z0-9._-]{1,40}$`"),
        ("partitions", "whole number, 1 to 16,384"),
    ],
)
def test_a_type_and_its_range_are_words(name, words):
    """Whatever pydantic knows of a field that limits it."""
    assert settings_page.kind(Example.model_fields[name]) == words


def test_the_docstring_gives_the_meaning():
    """Lines are joined, and names that share a line share its words."""
    meanings = settings_page.documented(Example)
    assert meanings["flavour"] == "what it tastes of, on two lines."
    assert meanings["low"] == meanings["high"] == "bounds | of something."


def test_check_fails_until_the_page_is_written(monkeypatch, tmp_path, capsys):
    """It says what to run; afterwards it passes."""
    monkeypatch.setattr(settings_page, "PAGE", tmp_path / "settings.md")
    assert settings_page.main(["--check"]) == 1
    assert "run: python -m genqueue_lab.settings_page" in capsys.readouterr().err
    assert settings_page.main([]) == settings_page.main(["--check"]) == 0
    text = (tmp_path / "settings.md").read_text()
    assert "| `GENQUEUE_STREAM_TTL` | number, 0.001 to 315,360,000 | `3600` |" in text
    assert "`GENQUEUE_GEMINI_API_KEY` or `GEMINI_API_KEY` | secret text | not set |" in text
