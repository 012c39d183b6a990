"""What every provider shares: errors of one kind, without the secrets of the request."""

import httpx
import pytest

from genqueue_worker.providers.connections import PoolCounters, PoolOptions
from genqueue_worker.providers.endpoint import Call, Endpoints, provider_errors
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of_response
from genqueue_worker.providers.seam import Route


@pytest.mark.parametrize("headers", [{"authorization": "Bearer s3cret"}, {"x-goog-api-key": "s3cret"}])
def test_no_secret_is_in_a_message(headers):
    """Whoever quotes a key or a token is quoted without it, and nothing else of the error is lost."""
    with pytest.raises(ProviderError) as raised, provider_errors(headers):
        raise ProviderError("WHY", "no s3cret here", 401, retry_after=2.0, doubts_key=True)
    assert "s3cret" not in f"{raised.value!r} {raised.value.__cause__!r}"
    assert (raised.value.status, raised.value.retry_after, raised.value.doubts_key) == (401, 2.0, True)
    assert "s3cret" not in repr(Call("https://a.test/", headers, b"s3cret"))


def test_a_connections_failure_is_the_providers():
    """Httpx's exceptions go no further."""
    with pytest.raises(ProviderError) as raised, provider_errors({}):
        raise httpx.ConnectTimeout("late")
    assert (raised.value.code, raised.value.retryable) == ("connect_timeout", True)


def test_who_counts_opens_nothing():
    """A scrape comes on another thread than the loop's, perhaps before the first request."""
    endpoints = Endpoints(PoolOptions(), error_of_response)
    unread = Route("vertex", "https://a.test", "", ca_file="/nowhere/ca.pem")
    assert endpoints.counters(unread) == PoolCounters(0, 0, 0)
