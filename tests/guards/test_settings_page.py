"""The page of settings, and the files in which they are set."""

import re
from pathlib import Path

from genqueue_lab.settings_page import PAGE, page, variables
from genqueue_worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


def test_page_is_what_the_settings_say():
    """`python -m genqueue_lab.settings_page` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_compose_sets_what_there_is_and_its_example_names_what_it_reads():
    """Every GENQUEUE_ variable of a service is a setting, and .env.example has every variable of compose.yaml."""
    compose = (ROOT / "compose.yaml").read_text()
    known = {name for field in WorkerSettings.model_fields.items() for name in variables(*field)}
    assert set(re.findall(r"^ +(GENQUEUE_[A-Z_]+):", compose, re.MULTILINE)) <= known
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{([A-Z_]+)", compose)) == example
