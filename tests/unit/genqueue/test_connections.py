"""How steps become commands."""

import traceback

import pytest

from genqueue import Client
from genqueue.connections import PAGE, connection_options, entries_of, read_command, resume
from genqueue.errors import ServerUnavailable, SettingsError
from genqueue.settings import Settings
from genqueue.steps import BLOCK, Wait


@pytest.mark.parametrize(("seconds", "milliseconds"), [(BLOCK, 2000), (0.25, 250), (0.0, 1), (0.0004, 1)])
def test_a_read_never_blocks_for_ever(seconds, milliseconds):
    """BLOCK 0 would be without end."""
    command = read_command(Wait("s", "1-0", seconds))
    assert command == ("XREAD", "COUNT", PAGE, "BLOCK", milliseconds, "STREAMS", "s", "1-0")


def test_the_entries_of_a_reply_are_those_of_the_one_stream():
    """No entry came: the reply is nothing at all."""
    assert entries_of([[b"s", [(b"1-0", {b"type": b"queued"})]]]) == [(b"1-0", {b"type": b"queued"})]
    assert entries_of(None) == []
    assert entries_of([]) == []


def test_an_absent_server_is_thrown_into_the_operation():
    """Everything else is sent as the reply."""

    def operation():
        try:
            reply = yield "first"
        except ServerUnavailable:
            reply = "away"
        yield reply

    started, failed = operation(), operation()
    next(started)
    next(failed)
    assert resume(started, ["reply"]) == ["reply"]
    assert resume(failed, ServerUnavailable("h", "x")) == "away"


@pytest.mark.parametrize("broker", ["carrier-pigeon://me:secret@h", "sqs://me:secret@h"])
def test_a_broker_nothing_can_talk_to_is_a_settings_error(broker):
    """Unknown, or its package is not installed: the variable is named, the password is not."""
    with pytest.raises(SettingsError, match="GENQUEUE_BROKER_URL") as raised:
        Client(broker_url=broker)
    assert "secret" not in "".join(traceback.format_exception(raised.value))


def test_patience_with_the_server_comes_from_the_settings():
    """A blocking read gets more, elsewhere; retries are never redis-py's own."""
    options = connection_options(Settings(connect_timeout=0.5, command_timeout=0.75))
    assert (options["socket_connect_timeout"], options["socket_timeout"]) == (0.5, 0.75)
