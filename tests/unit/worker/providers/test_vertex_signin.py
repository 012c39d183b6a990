"""What google-auth raises stops where it is called, as an error of the provider's."""

import datetime as dt
import inspect
from types import SimpleNamespace

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


@pytest.mark.parametrize("error", [AttributeError("get"), TypeError("list indices"), KeyError("access_token")])
def test_a_token_endpoint_that_answers_anything_else_is_away(monkeypatch, error):
    """As a proxy that answers in its place; the credentials are not in doubt."""

    def refresh(_):
        raise error

    monkeypatch.setattr(vertex_signin, "_load", lambda *_: SimpleNamespace(refresh=refresh))
    with pytest.raises(ProviderError, match="what answered gives no tokens") as raised:
        vertex_signin.SignIn(vertex_route("p"))()
    assert (raised.value.code, raised.value.retryable, raised.value.doubts_key) == ("token_unavailable", True, False)


def test_a_token_that_is_over_as_it_comes_is_told_with_the_clock(monkeypatch):
    """The machine's clock is wrong; to get another at once would go on without end."""
    past = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - as google-auth has it
    credentials = SimpleNamespace(refresh=lambda _: None, token="t", expiry=past)
    monkeypatch.setattr(vertex_signin, "_load", lambda *_: credentials)
    with pytest.raises(ProviderError, match=r"over already.* this machine's clock is right") as raised:
        vertex_signin.SignIn(vertex_route("p"))()
    assert raised.value.doubts_key


def test_a_broken_authority_file_is_not_the_accounts_fault():
    """What to look at is named."""
    with pytest.raises(ProviderError, match="GENQUEUE_VERTEX_CA_FILE") as raised:
        vertex_signin.SignIn(vertex_route("p", ca_file=__file__))()
    assert not raised.value.doubts_key
