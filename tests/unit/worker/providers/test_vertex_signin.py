"""What google-auth raises stops where it is called, as an error of the provider's."""

import inspect

import pytest
from google.auth import exceptions

from genqueue_worker.providers import vertex_signin
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.vertex import vertex_route

KINDS = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if kind.__module__ == exceptions.__name__]


@pytest.fixture
def refused(monkeypatch):
    """Return a function that signs in with credentials that raise, and gives the error that comes of it."""

    def refused(error):
        def load(*_):
            raise error

        monkeypatch.setattr(vertex_signin, "_load", load)
        with pytest.raises(ProviderError) as raised:
            vertex_signin.SignIn(vertex_route("p"))()
        return raised.value

    return refused


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_is_one_of_ours(refused, kind):
    """With what to do; whether the key is doubted depends on who is at fault."""
    found = refused(kind("words"))
    assert "words" in found.message
    assert found.doubts_key is not found.retryable
    assert found.__cause__.args


def test_a_refusal_that_may_pass_is_retryable(refused):
    """As the library says of a token endpoint that is overloaded."""
    found = refused(exceptions.RefreshError("busy", retryable=True))
    assert (found.code, found.retryable, found.status) == ("token_unavailable", True, None)
