"""Foreign exceptions stop at the module that owns their library."""

import builtins
import inspect
import socket
import ssl
from unittest.mock import Mock

import h2.exceptions
import httpx
import pytest
import redis.exceptions as theirs

from genqueue.connections import AsyncConnection, BlockingConnection
from genqueue.errors import ServerUnavailable
from genqueue.settings import Settings
from genqueue.steps import Query
from genqueue_worker.providers import dialing
from genqueue_worker.providers.connection_options import ConnectionOptions


def classes_of(module, *bases):
    """Return a module's own classes below some bases."""
    return [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, bases)]


AWAY = classes_of(theirs, theirs.ConnectionError, theirs.TimeoutError)


@pytest.mark.parametrize("connection", [BlockingConnection, AsyncConnection])
@pytest.mark.parametrize("kind", AWAY, ids=lambda kind: kind.__name__)
async def test_lost_server_is_server_unavailable(connection, kind):
    """Whatever redis-py raises about a connection reaches the caller as ServerUnavailable, with its cause."""
    made, lost = connection(Settings()), kind("gone")
    made._here()._commands.pipeline = Mock(side_effect=lost)
    error = made._here().carry_out(Query(()))
    error = await error if inspect.isawaitable(error) else error
    assert isinstance(error, ServerUnavailable)
    assert error.__cause__ is lost
    await made.aclose() if hasattr(made, "aclose") else made.close()


@pytest.mark.parametrize(
    "kind",
    [*classes_of(ssl, ssl.SSLError), *classes_of(socket, OSError), *classes_of(builtins, OSError), UnicodeError],
    ids=lambda kind: kind.__name__,
)
async def test_what_breaks_while_connecting_is_an_httpx_error(kind, monkeypatch):
    """Whatever the system, TLS or a host's name raise becomes httpx's; a timeout stays one."""
    expected = httpx.ConnectTimeout if issubclass(kind, TimeoutError) else httpx.ConnectError
    monkeypatch.setattr(dialing, "_connect", Mock(side_effect=kind(1, "it broke")))
    with pytest.raises(expected) as raised:
        await dialing.dial(httpx.URL("https://x"), ConnectionOptions(), Mock())
    assert isinstance(raised.value.__cause__, kind)


@pytest.mark.parametrize("kind", classes_of(h2.exceptions, Exception), ids=lambda kind: kind.__name__)
def test_what_h2_raises_about_a_server_has_one_root(kind):
    """The connection catches ProtocolError: everything h2 raises is one, but for an RFC's advice to servers."""
    assert issubclass(kind, h2.exceptions.ProtocolError) or kind in {h2.exceptions.H2Error, h2.exceptions.RFC1122Error}
