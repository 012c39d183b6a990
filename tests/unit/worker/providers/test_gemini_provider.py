"""The provider over a scripted answer: what it asks, what it makes of refusals, and what it never tells."""

import contextlib
import json
import logging

import httpx
import pytest

from genqueue_worker.providers import endpoint
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiProvider
from genqueue_worker.providers.seam import Piece, ProviderRequest, Route

ROUTE = Route("eu", "https://gemini.test/", "secret-key")
REQUEST = ProviderRequest("gemini-3-pro-preview", [{"role": "user", "parts": [{"text": "hi"}]}])
FIRST = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\r\n\r\n'
LAST = b'data: {"candidates":[{"finishReason":"STOP"}]}\r\n\r\n'


class Pool(httpx.MockTransport):
    """Connections that give the scripted answer."""

    async def warm(self, make_request):
        """Ask once."""
        try:
            return [await self.handle_async_request(make_request())]
        except httpx.TransportError as error:
            return [error]


@pytest.fixture
def provider(monkeypatch):
    """Return a provider, given the answer; `provider.asked` has the requests it made."""

    def make(answer):
        made = GeminiProvider(clock=lambda: 0.0)
        made.asked = []

        def respond(request):
            made.asked.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(endpoint, "ConnectionPool", lambda _: Pool(respond))
        return made

    return make


async def pieces(provider, request=REQUEST):
    """Return all pieces of an answer."""
    async with contextlib.aclosing(provider.stream(request, ROUTE)) as stream:
        return [piece async for chunk in stream for piece in chunk.entries]


async def refusal(provider):
    """Return the error of an answer that is none."""
    with pytest.raises(ProviderError) as raised:
        await pieces(provider)
    return raised.value


async def test_what_is_asked(provider):
    """The address, the key's header and the body are the API's, and nothing is compressed."""
    own = provider(httpx.Response(200, content=FIRST + LAST))
    assert await pieces(own) == [Piece("delta", "a")]
    asked = own.asked[0]
    path = "/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse"
    assert (asked.method, str(asked.url)) == ("POST", f"https://gemini.test{path}")
    assert asked.headers["x-goog-api-key"] == "secret-key"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity"
    assert json.loads(asked.content) == {"contents": REQUEST.contents}


async def test_a_request_that_cannot_be_sent_is_not_sent(provider):
    """A model name that could change the address, or a field the API does not take, reaches no server."""
    own = provider(httpx.Response(200, content=FIRST + LAST))
    for wrong in (ProviderRequest("../x?y", []), ProviderRequest("m", [], None, {"audio_timestamp": True})):
        with pytest.raises(ProviderError):
            await pieces(own, wrong)
    assert own.asked == []


async def test_a_refusal_keeps_googles_words(provider):
    """Status, code, message and the time to come again are those of the answer."""
    error = {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}
    found = await refusal(provider(httpx.Response(429, json=error, headers={"retry-after": "3"})))
    assert (found.code, found.message) == ("RESOURCE_EXHAUSTED", "Quota exceeded.")
    assert (found.status, found.retryable, found.retry_after) == (429, True, 3.0)


async def test_a_redirect_is_an_error(provider):
    """Nobody is sent elsewhere with the key in hand."""
    own = provider(httpx.Response(302, headers={"location": "https://elsewhere.test"}))
    found = await refusal(own)
    assert (found.code, found.retryable, len(own.asked)) == ("HTTP_302", False, 1)


async def test_a_connections_failure_is_a_retryable_error(provider):
    """Httpx's exceptions stay inside, as the cause."""
    found = await refusal(provider(httpx.ReadError("reset")))
    assert (found.code, found.message, found.status, found.retryable) == ("connection_lost", "reset", None, True)
    assert isinstance(found.__cause__, httpx.ReadError)


@pytest.mark.parametrize("status", [200, 400])
async def test_the_key_is_in_no_message(provider, status):
    """A server that quotes the key, in its answer or in a stream, is quoted without it."""
    error = {"error": {"code": 400, "message": "key secret-key is not valid", "status": "INVALID_ARGUMENT"}}
    found = await refusal(provider(httpx.Response(status, content=b"data: " + json.dumps(error).encode() + b"\n\n")))
    assert "[api key]" in found.message
    assert "secret-key" not in f"{found!r} {found} {found.__cause__} {found.args}"
    assert (found.status, found.retryable) == (400, False)


@pytest.mark.parametrize("answer", [httpx.ConnectError("refused"), httpx.Response(403, json={})])
async def test_a_failed_warm_up_is_logged_with_what_to_do_and_without_the_key(provider, caplog, answer):
    """A worker starts without its provider; the log says which route and why."""
    with caplog.at_level(logging.WARNING):
        assert await provider(answer).warm(ROUTE) is False
    assert "provider.warm_failed route=eu error=" in caplog.text
    assert "check the route's address, certificate and key" in caplog.text
    assert "secret-key" not in caplog.text


async def test_a_warm_up_asks_for_little(provider):
    """One model of the list is enough to open a connection and to try the key."""
    own = provider(httpx.Response(200, json={"models": []}))
    assert await own.warm(ROUTE) is True
    assert str(own.asked[0].url) == "https://gemini.test/v1beta/models?pageSize=1"
    assert own.asked[0].headers["x-goog-api-key"] == "secret-key"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(403, json={"error": {"code": 403, "message": "secret-key leaked", "status": "WHY"}}), 403),
        (httpx.ConnectError("refused"), None),
    ],
)
async def test_a_trial_of_the_key_says_how_it_was_refused(provider, answer, status):
    """In the provider's words, without the key; a key that is accepted says nothing."""
    own = provider(answer)
    with pytest.raises(ProviderError) as raised:
        await own.prove(ROUTE)
    assert raised.value.status == status
    assert "secret-key" not in str(raised.value)
    accepted = provider(httpx.Response(200, json={"models": []}))
    await accepted.prove(ROUTE)
    assert (accepted.asked[0].method, accepted.asked[0].url.path) == ("GET", "/v1beta/models")
