"""What a connection is made with, and how replies reach an operation."""

import traceback

import pytest

from genqueue import Client
from genqueue.connections import connection_options
from genqueue.connections.resume import resume
from genqueue.errors import ServerUnavailable, SettingsError
from genqueue.settings import Settings


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


@pytest.mark.parametrize("broker", ["carrier-pigeon://me:secret@h", "azurestoragequeues://me:secret@h"])
def test_a_broker_nothing_can_talk_to_is_a_settings_error(broker):
    """Unknown, or its package is not installed: the variable is named, the password is not."""
    with pytest.raises(SettingsError, match="GENQUEUE_BROKER_URL") as raised:
        Client(broker_url=broker)
    assert "secret" not in "".join(traceback.format_exception(raised.value))


def test_patience_with_the_server_comes_from_the_settings():
    """Retries are never redis-py's own; a unix socket has no TCP options."""
    options = connection_options(Settings(connect_timeout=0.5, command_timeout=0.75))
    assert (options["socket_connect_timeout"], options["socket_timeout"]) == (0.5, 0.75)
    assert options["socket_keepalive"]
    assert "socket_keepalive" not in connection_options(Settings(data_url="unix:///tmp/socket"))
