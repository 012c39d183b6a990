"""Foreign exceptions stop at the module that owns their library."""

import inspect
from unittest.mock import Mock

import httpx
import pytest
import redis.exceptions as theirs
from pyreqwest import exceptions as pyreqwest_errors

from genqueue.connections import AsyncConnection, BlockingConnection
from genqueue.errors import ServerUnavailable
from genqueue.settings import Settings
from genqueue.steps import Query
from genqueue_worker.providers.transport import httpx_errors


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
    "kind", classes_of(pyreqwest_errors, pyreqwest_errors.PyreqwestError), ids=lambda kind: kind.__name__
)
def test_pyreqwest_error_is_an_httpx_error(kind):
    """Each of pyreqwest's exceptions becomes httpx's; timeouts stay timeouts, lost connections network errors."""
    expected = httpx.TransportError
    expected = httpx.TimeoutException if issubclass(kind, pyreqwest_errors.RequestTimeoutError) else expected
    expected = httpx.NetworkError if issubclass(kind, pyreqwest_errors.NetworkError) else expected
    error = kind.__new__(kind)
    error.message, error.details = "it broke", {"causes": None}
    with pytest.raises(expected, match="it broke"), httpx_errors():
        raise error
