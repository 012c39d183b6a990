"""`genqueue worker` before it works, and the status it ends with."""

import pytest
from click.testing import CliRunner

from genqueue.cli import main
from genqueue.patience import Patience
from genqueue_worker.cli import exit_status

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("stops", "exitcode", "status"),
    [
        (["Warm"], 1, 0),
        (["Warm", "Warm"], 0, 0),
        (["Warm", "Cold"], 1, 1),
        (["Cold", "Warm"], None, 1),
        (["Cold"], None, 1),
        ([], 1, 1),
        ([], None, 0),
        ([], "Got shutdown from remote", 0),
    ],
)
def test_only_a_drained_worker_ends_well(stops, exitcode, status):
    """Ctrl-C and a drain are no failure, a second Ctrl-C and a lost lifespan are."""
    assert exit_status(stops, exitcode) == status


def test_wrong_options_and_variables_are_listed_together():
    """Each has its line, and the exit status is 2."""
    given = ["--lanes", "high,turbo", "--slots", "0", "--name", "a b", "--drain", "-1"]
    ended = CliRunner(env={"GENQUEUE_PARTITIONS": "0"}).invoke(main, ["worker", *given])
    assert ended.exit_code == 2
    assert len(ended.stderr.splitlines()) == 5
    assert "turbo" in ended.stderr


def test_a_data_server_that_stays_away_is_one_error(monkeypatch):
    """The worker says that it waits, then why it gives up."""
    monkeypatch.setattr("genqueue_worker.cli.START_PATIENCE", Patience(reconnect=0.01))
    ended = CliRunner(env={"GENQUEUE_DATA_URL": NOWHERE}).invoke(main, ["worker"])
    assert ended.exit_code == 1
    waiting, error = ended.stderr.splitlines()
    assert waiting == "waiting up to 0.01 s for the data server at 127.0.0.1:1/0"
    assert error.startswith("error: the data server at 127.0.0.1:1/0 is not available")
