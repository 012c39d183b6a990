"""The group of commands: lazy, and never a traceback."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from genqueue.cli import commands as table
from genqueue.cli import main
from genqueue.cli.commands import COMMANDS, Entry, load
from genqueue.errors import JobNotFound, MissingExtra, SettingsError

#: What only the extras bring, and what only workers and labs need.
HEAVY = {"genqueue_worker", "genqueue_lab", "google", "httpx", "rich", "uvloop", "msgspec"}


def stand_in(monkeypatch, action):
    """Let `genqueue status` do something else."""
    command = click.Command("status", callback=action)
    monkeypatch.setattr("genqueue.cli.group.load", lambda _entry: command)


@pytest.mark.parametrize("arguments", [["--help"], ["submit", "--help"]])
def test_help_imports_no_worker_and_no_vendor(arguments):
    """Help of the group and of the SDK's commands loads nothing that an extra brings."""
    code = (
        "import sys, json\nfrom genqueue.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in ended.stdout
    assert set(json.loads(ended.stderr)).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists(name):
    """Its name is its own, and it has a help page."""
    command = load(COMMANDS[name])
    assert command.name == name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_help_lists_every_command():
    """In the order of the table, each with its line."""
    shown = CliRunner().invoke(main, ["--help"]).stdout
    places = [shown.index(f"  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert all(entry.help in shown for entry in COMMANDS.values())


def test_a_missing_extra_prints_its_install_line(monkeypatch, tmp_path):
    """A command whose extra is absent says what to install, and the exit status is 1."""
    (tmp_path / "needs_httpx.py").write_text("import hyperdrive_is_not_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(table.MODULES, "worker", frozenset({"hyperdrive_is_not_here"}))
    monkeypatch.setitem(COMMANDS, "worker", Entry("needs_httpx", "worker", "", "worker"))
    ended = CliRunner().invoke(main, ["worker"])
    assert ended.exit_code == 1
    assert ended.stderr == (
        "error: hyperdrive_is_not_here is not installed; install it with: pip install 'genqueue[worker]'\n"
    )


@pytest.mark.parametrize("extra", ["worker", None])
def test_a_bug_in_an_import_is_not_a_missing_extra(monkeypatch, tmp_path, extra):
    """A module that no extra brings is missed loudly."""
    name = f"broken_{extra}"
    (tmp_path / f"{name}.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as raised:
        load(Entry(name, "command", "", extra))
    assert not isinstance(raised.value, MissingExtra)


@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (JobNotFound("1-ab"), 1, ["error: no job '1-ab': the id is wrong, or its retention is over"]),
        (SettingsError(["A: got 1", "B: got\n2"]), 2, ["error: A: got 1", "error: B: got 2"]),
        (click.ClickException("no broker"), 1, ["error: no broker"]),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_errors_become_lines_and_a_status(monkeypatch, error, status, lines):
    """One line for an error, one for each wrong setting, and nothing on stdout."""

    def fail():
        raise error

    stand_in(monkeypatch, fail)
    ended = CliRunner().invoke(main, ["status"])
    assert ended.exit_code == status
    assert ended.stderr.splitlines() == lines
    assert ended.stdout == ""


def test_an_unknown_command_is_a_usage_error():
    """It says so and exits 2."""
    ended = CliRunner().invoke(main, ["sumbit"])
    assert ended.exit_code == 2
    assert "sumbit" in ended.stderr


def test_output_that_the_terminal_cannot_spell_is_replaced():
    """An older terminal gets question marks, not a traceback."""
    code = "import click\nfrom genqueue.cli import group\ngroup.load = lambda entry: click.Command('status', callback="
    code += "lambda: click.echo('ab\\u2026'))\ngroup.main(['status'])"
    environment = {"PYTHONIOENCODING": "latin-1", "PATH": ""}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout == "ab?\n"
