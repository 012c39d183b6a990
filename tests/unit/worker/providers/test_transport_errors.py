"""pyreqwest's exceptions stop at the transport."""

import inspect

import httpx
import pytest
from pyreqwest import exceptions

from genqueue_worker.providers.transport import httpx_errors

KINDS = [
    kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, exceptions.PyreqwestError)
]


def raised_for(kind, causes=None):
    """Return what leaves the transport for an exception of pyreqwest."""
    error = kind.__new__(kind)
    Exception.__init__(error, "why")
    error.message, error.details = "why", {"causes": causes}
    with pytest.raises(httpx.TransportError) as raised, httpx_errors():
        raise error
    return raised.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception_of_pyreqwest_becomes_one_of_httpx(kind):
    """Whatever pyreqwest raises, callers see httpx's tree, timeouts as timeouts."""
    error = raised_for(kind)
    assert isinstance(error, httpx.TimeoutException) is issubclass(kind, TimeoutError)
    assert isinstance(error.__cause__, kind)


@pytest.mark.parametrize(
    "name", ["ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "Connect", "Read", "Write"]
)
def test_kinds_known_to_both_keep_their_names(name):
    """A connect timeout stays a connect timeout, a read error a read error."""
    theirs = getattr(httpx, name if name.endswith("Timeout") else f"{name}Error")
    assert type(raised_for(getattr(exceptions, f"{name}Error"))) is theirs


def test_the_deepest_cause_is_told():
    """The outer message alone would be the same for every failure."""
    causes = [{"message": "client error"}, {"message": "Connection refused"}]
    assert str(raised_for(exceptions.ConnectError, causes)) == "why: Connection refused"


def test_other_exceptions_pass():
    """Only pyreqwest's are turned."""
    with pytest.raises(KeyError), httpx_errors():
        raise KeyError
