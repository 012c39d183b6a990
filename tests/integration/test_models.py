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
    """With aligned columns: provider, name, limits, thinking, methods; before it what jobs may ask for."""
    listed = models(environment)
    assert listed.exit_code == 0
    first, second = listed.stdout.split("\n\n")
    head, *rows = first.splitlines()
    assert head.split() == ["alias", "model", "provider", "fallbacks"]
    assert rows[1].split() == ["fast", "gemini-2.5-flash", "gemini", "-"]
    head, *rows = second.splitlines()
    assert head.split() == ["provider", "name", "display", "name", "input", "output", "thinking", "methods"]
    assert [row.split()[1] for row in rows] == list(MODELS)
    flash = next(row for row in rows if row.split()[1] == "gemini-2.0-flash")
    assert flash.split()[-5:] == ["1,048,576", "8,192", "no", "generateContent,", "countTokens"]
    assert len({row.index("generateContent") for row in rows}) == 1


def test_models_are_json(environment):
    """Every field under its own name."""
    found = json.loads(models(environment, "--json").stdout)
    assert found["models"][0] == {
        "provider": "gemini",
        "name": "gemini-3-pro-preview",
        "display_name": "Gemini 3 Pro Preview",
        "input_token_limit": 1_048_576,
        "output_token_limit": 65_536,
        "thinking": True,
        "methods": ["generateContent", "countTokens"],
    }
    assert len(found["models"]) == len(MODELS)
    assert found["table"][0] == {"alias": "best", "model": "gemini-2.5-pro", "provider": "gemini", "fallbacks": []}
    assert found["problems"] == {}


def test_every_provider_is_asked_and_the_table_is_the_files(environment, emulator, tmp_path):
    """One that refuses does not hide what the others list; a table that is wrong is told with all that is wrong."""
    table = tmp_path / "models.toml"
    table.write_text('[aliases]\nspare = "gpt-4.1"\n[fallbacks]\n"gemini-2.5-pro" = ["spare"]\n')
    both = environment | {
        "GENQUEUE_OPENAI_BASE_URL": f"{emulator.url}/v1",
        "GENQUEUE_OPENAI_CA_FILE": str(emulator.ca_file),
        "GENQUEUE_OPENAI_API_KEY": "good-key",
        "GENQUEUE_MODELS_FILE": str(table),
    }
    found = json.loads(models(both, "--json").stdout)
    assert {model["provider"] for model in found["models"]} == {"gemini", "openai"}
    assert "gpt-4.1" in {model["name"] for model in found["models"] if model["provider"] == "openai"}
    assert found["table"][:3] == [
        {"alias": "best", "model": "gemini-2.5-pro", "provider": "gemini", "fallbacks": ["gpt-4.1"]},
        {"alias": "fast", "model": "gemini-2.5-flash", "provider": "gemini", "fallbacks": []},
        {"alias": "spare", "model": "gpt-4.1", "provider": "openai", "fallbacks": []},
    ]
    partly = models(both | {"GENQUEUE_OPENAI_API_KEY": "wrong-secret"}, "--json")
    assert (partly.exit_code, list(json.loads(partly.stdout)["problems"])) == (1, ["openai"])
    assert "check GENQUEUE_OPENAI_API_KEY" in partly.stderr
    assert "wrong-secret" not in partly.output
    table.write_text("[aliases]\nx = 1\n[other]\n")
    wrong = models(both)
    assert wrong.exit_code == 2
    assert "[aliases] 'x': got 1" in wrong.stderr
    assert "[other]: no such table" in wrong.stderr


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
    listed = models({"GENQUEUE_GEMINI_API_KEY": "", "GEMINI_API_KEY": "", "OPENAI_API_KEY": ""})
    assert listed.exit_code == 2
    assert "GENQUEUE_GEMINI_API_KEY: not set" in listed.stderr
