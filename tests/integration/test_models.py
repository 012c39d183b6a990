"""`genqueue models` against the emulator."""

import json

import pytest
from click.testing import CliRunner

from genqueue.cli import main
from genqueue_lab.emulator.catalog import MODELS
from genqueue_lab.servers import free_port
from genqueue_worker.providers.catalog import list_models
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Route


@pytest.fixture
def environment(emulator):
    """Return the variables that lead to the emulator."""
    return {
        "GENQUEUE_GEMINI_BASE_URL": emulator.url,
        "GENQUEUE_GEMINI_CA_FILE": str(emulator.ca_file),
        "GENQUEUE_GEMINI_API_KEY": "good-key",
    }


def models(environment, *options):
    """Run the command."""
    return CliRunner(env=environment).invoke(main, ["models", *options])


def test_models_are_a_table(environment):
    """With aligned columns: name, limits, thinking, methods."""
    listed = models(environment)
    assert listed.exit_code == 0
    head, *rows = listed.stdout.splitlines()
    assert head.split() == ["name", "display", "name", "input", "output", "thinking", "methods"]
    assert [row.split()[0] for row in rows] == list(MODELS)
    flash = next(row for row in rows if row.startswith("gemini-2.0-flash "))
    assert flash.split()[-5:] == ["1,048,576", "8,192", "no", "generateContent,", "countTokens"]
    assert len({row.index("generateContent") for row in rows}) == 1


def test_models_are_json(environment):
    """Every field under its own name."""
    found = json.loads(models(environment, "--json").stdout)
    assert found[0] == {
        "name": "gemini-3-pro-preview",
        "display_name": "Gemini 3 Pro Preview",
        "input_token_limit": 1_048_576,
        "output_token_limit": 65_536,
        "thinking": True,
        "methods": ["generateContent", "countTokens"],
    }
    assert len(found) == len(MODELS)


@pytest.mark.parametrize("page", [1, 3, 7, 100])
async def test_every_page_is_read(emulator, page):
    """However few models the provider gives at a time."""
    route = Route("gemini", emulator.url, "good-key", str(emulator.ca_file))
    found = await list_models(route, 5.0, page=page)
    assert [model.name for model in found] == [f"models/{name}" for name in MODELS]


async def test_what_is_no_list_is_an_error(emulator):
    """Some other service answered."""
    route = Route("gemini", f"{emulator.url}/emulator/stats?", "good-key", str(emulator.ca_file))
    with pytest.raises(ProviderError):
        await list_models(route, 5.0)


def test_a_refused_key_is_one_line(environment):
    """It names the variable and not the key."""
    listed = models(environment | {"GENQUEUE_GEMINI_API_KEY": "wrong-secret"})
    assert listed.exit_code == 1
    assert listed.stderr.startswith("error: ")
    assert "API key not valid" in listed.stderr
    assert "check GENQUEUE_GEMINI_API_KEY" in listed.stderr
    assert "wrong-secret" not in listed.output
    assert len(listed.stderr.splitlines()) == 1


def test_an_absent_endpoint_is_one_line(environment):
    """It says where, and which command finds out more."""
    listed = models(environment | {"GENQUEUE_GEMINI_BASE_URL": f"https://127.0.0.1:{free_port()}"})
    assert listed.exit_code == 1
    assert "error: https://127.0.0.1:" in listed.stderr
    assert "genqueue doctor says what is wrong" in listed.stderr


def test_without_a_key_the_variable_is_named():
    """Before anybody is asked."""
    listed = models({"GENQUEUE_GEMINI_API_KEY": "", "GEMINI_API_KEY": ""})
    assert listed.exit_code == 2
    assert "GENQUEUE_GEMINI_API_KEY: not set" in listed.stderr
