"""Which models a job's word leads to, and what is wrong with a table."""

import pytest

from genqueue.errors import SettingsError
from genqueue_worker.model_file import read_table
from genqueue_worker.model_table import Choice, Entries, ModelTable
from genqueue_worker.providers.errors import ProviderError

ALL = ("gemini", "vertex", "openai")


@pytest.mark.parametrize(
    ("said", "kind", "model"),
    [
        ("gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
        ("tunedModels/mine", "gemini", "tunedModels/mine"),
        ("gpt-4.1-mini", "openai", "gpt-4.1-mini"),
        ("o3-mini", "openai", "o3-mini"),
        ("projects/p/locations/l/endpoints/1", "vertex", "projects/p/locations/l/endpoints/1"),
        ("vertex/gemini-2.5-pro", "vertex", "gemini-2.5-pro"),
        ("openai/org/model", "openai", "org/model"),
        ("fast", "gemini", "gemini-2.5-flash"),
        ("best", "gemini", "gemini-2.5-pro"),
    ],
)
def test_a_model_has_a_provider(said, kind, model):
    """By the vendor's names, by a prefix, and by an alias."""
    (choice,) = ModelTable(ALL).chain(said)
    assert (choice.kind, choice.model) == (kind, model)


def test_the_only_provider_serves_what_nothing_else_is_said_of():
    """Vertex AI serves Google's models where it is the only one of the two."""
    assert ModelTable(["openai"]).choice("llama-4").kind == "openai"
    assert ModelTable(["gemini"]).choice("llama-4").kind == "gemini"
    assert ModelTable(["vertex", "openai"]).choice("gemini-2.5-pro").kind == "vertex"


@pytest.mark.parametrize(
    ("configured", "said", "words"),
    [
        (ALL, "llama-4", "say gemini/llama-4, or add it to [models] in GENQUEUE_MODELS_FILE"),
        (["gemini"], "gpt-4.1", "set GENQUEUE_OPENAI_API_KEY"),
        (["openai"], "fast", "'gemini-2.5-flash' is gemini's by the model table"),
        (["openai"], "vertex/gemini-2.5-pro", "set GENQUEUE_VERTEX_PROJECT"),
    ],
)
def test_a_model_nobody_serves_is_an_error_that_names_the_table(configured, said, words):
    """Not one to be tried again."""
    with pytest.raises(ProviderError) as caught:
        ModelTable(configured).chain(said)
    assert (caught.value.code, caught.value.retryable) == ("unknown_model", False)
    assert words in caught.value.message


def test_the_longest_pattern_counts_and_a_name_before_a_pattern():
    """Patterns of a file are weighed against those built in; an equal one overrides."""
    models = {"gemini-2.5*": "vertex", "gemini-2.5-pro": "openai", "gpt-*": "gemini", "*": "openai"}
    table = ModelTable(ALL, Entries(models=models))
    found = {name: table.choice(name).kind for name in ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-3", "gpt-4", "x")}
    assert found == {
        "gemini-2.5-pro": "openai",
        "gemini-2.5-flash": "vertex",
        "gemini-3": "gemini",
        "gpt-4": "gemini",
        "x": "openai",
    }


def test_a_chain_is_a_model_and_its_fallbacks():
    """Aliases are followed in all of it; the fallbacks of a fallback are not."""
    further = Entries(
        aliases={"main": "best", "spare": "gpt-4.1"},
        fallbacks={"gemini-2.5-pro": ("fast", "spare"), "gpt-4.1": ("gpt-4.1-mini",)},
    )
    table = ModelTable(ALL, further)
    head, *others = table.chain("main")
    assert head == Choice("gemini-2.5-pro", "gemini", "gemini-2.5-pro")
    assert [other.name for other in others] == ["gemini-2.5-flash", "gpt-4.1"]
    assert [choice.kind for choice in table.chain("vertex/gemini-2.5-pro")] == ["vertex", "gemini", "openai"]


@pytest.mark.parametrize("said", ["gemini-2.5-pro", "gemini/gemini-2.5-pro"])
@pytest.mark.parametrize("named", ["gemini-2.5-pro", "gemini/gemini-2.5-pro"])
def test_fallbacks_are_found_however_the_model_is_spelled(said, named):
    """With its provider or without, in the table and by the job."""
    table = ModelTable(ALL, Entries(fallbacks={named: ("gpt-4.1",)}))
    assert [choice.model for choice in table.chain(said)] == ["gemini-2.5-pro", "gpt-4.1"]


def test_a_model_of_the_file_takes_a_built_in_alias_away():
    """A server of one's own may call a model so."""
    table = ModelTable(ALL, Entries(models={"fast": "openai"}))
    assert table.chain("fast") == (Choice("fast", "openai", "fast"),)
    assert "fast" not in table.entries.aliases


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a table from a text."""

    def make(text, configured=ALL):
        path = tmp_path / "models.toml"
        path.write_text(text)
        return read_table(path, configured)

    return make


def test_a_file_adds_to_what_is_built_in(read):
    """All three tables, each of which may be left out."""
    table = read(
        '[models]\n"llama-*" = "openai"\n[aliases]\nfast = "llama-4"\n[fallbacks]\n"llama-4" = ["gemini-2.5-flash"]\n'
    )
    assert [choice.name for choice in table.chain("fast")] == ["llama-4", "gemini-2.5-flash"]
    assert table.chain("best") == (Choice("gemini-2.5-pro", "gemini", "gemini-2.5-pro"),)
    assert read("").chain("gpt-4.1") == (Choice("gpt-4.1", "openai", "gpt-4.1"),)


FORM = """
[model]
[models]
"llama" = "claude"
"gpt 4" = "openai"
[aliases]
fast = 5
"a b" = "x"
[fallbacks]
gpt-4 = "gpt-3"
gpt-5 = []
"""
TWICE = "is asked already, expected each model once, and not the model itself"
UNSERVED = (
    "is vertex's by the model table, and this worker does not ask vertex: set GENQUEUE_VERTEX_PROJECT, or "
    "GENQUEUE_MODELS_FILE to another table"
)
SENSE = """
[models]
"llama-*" = "vertex"
[aliases]
one = "two"
two = "one"
"gpt-4" = "gemini-2.5-pro"
"gemini/x" = "gpt-4.1"
old = "vertex/gemini-1.0"
[fallbacks]
best = ["gpt-4.1"]
"gemini-2.5-pro" = ["best", "gpt-4.1", "openai/gpt-4.1", "vertex/gemini-2.5-pro"]
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            FORM,
            [
                "[model]: no such table, expected [models], [aliases], [fallbacks]",
                "[models] 'llama': got 'claude', expected one of gemini, vertex, openai",
                "[models] 'gpt 4': expected a model's name, in which * may stand for anything",
                "[aliases] 'fast': got 5, expected a model's name",
                "[aliases] 'a b': expected a name",
                "[fallbacks] 'gpt-4': got 'gpt-3', expected a list of models' names",
                "[fallbacks] 'gpt-5': got [], expected a list of models' names",
            ],
        ),
        (
            SENSE,
            [
                "[models] 'llama-*': vertex is not configured, expected GENQUEUE_VERTEX_PROJECT to be set",
                "[aliases] 'one': it leads in a circle, expected it to lead to a model",
                "[aliases] 'two': it leads in a circle, expected it to lead to a model",
                "[aliases] 'gpt-4': it hides models of the pattern 'gpt-*', expected a name that is no model's",
                "[aliases] 'gemini/x': it hides a model named with its provider, expected a name that is no model's",
                f"[aliases] 'old': the model 'vertex/gemini-1.0' {UNSERVED}",
                "[fallbacks] 'best': it is an alias, expected the model it leads to, 'gemini-2.5-pro'",
                f"[fallbacks] 'gemini-2.5-pro': 'best' {TWICE}",
                f"[fallbacks] 'gemini-2.5-pro': 'openai/gpt-4.1' {TWICE}",
                f"[fallbacks] 'gemini-2.5-pro': the model 'vertex/gemini-2.5-pro' {UNSERVED}",
            ],
        ),
    ],
)
def test_all_problems_of_a_file_are_told_at_once(read, tmp_path, text, told):
    """With table, key, and what is expected; those of form before those of sense."""
    with pytest.raises(SettingsError) as caught:
        read(text, ("gemini", "openai"))
    where = f"GENQUEUE_MODELS_FILE: {tmp_path / 'models.toml'}: "
    assert [problem.removeprefix(where) for problem in caught.value.problems] == told


@pytest.mark.parametrize("text", ["[models", "models = 1", "\x00"])
def test_what_is_no_table_is_named(read, text):
    """TOML or not."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_MODELS_FILE: .*expected a"):
        read(text)
