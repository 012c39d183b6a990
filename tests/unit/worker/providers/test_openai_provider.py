"""The provider over scripted answers: what it asks, how it asks again, and what it never tells."""

import contextlib
import json

import httpx
import pytest

from genqueue_worker.providers import endpoint
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai import OpenAIProvider
from genqueue_worker.providers.seam import Piece, ProviderRequest, Route

ROUTE = Route("o", "https://openai.test/v1/", "secret-key", kind="openai")
REQUEST = ProviderRequest("gpt", [{"role": "user", "parts": [{"text": "hi"}]}], None, {"maxOutputTokens": 9})
WHOLE = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def refusing(message, status=400):
    """Return an answer that refuses with a message."""
    return httpx.Response(status, json={"error": {"message": message}})


class Pool(httpx.MockTransport):
    """Connections that give the scripted answers."""

    async def warm(self, make_request):
        """Ask once."""
        return [await self.handle_async_request(make_request())]


@pytest.fixture
def provider(monkeypatch):
    """Return a provider, given the answers in turn; `provider.asked` has the requests it made."""

    def make(*answers):
        made = OpenAIProvider(clock=lambda: 0.0)
        made.asked, turns = [], iter(answers)

        def respond(request):
            made.asked.append(request)
            return next(turns)

        monkeypatch.setattr(endpoint, "ConnectionPool", lambda _: Pool(respond))
        return made

    return make


async def pieces(provider, request=REQUEST):
    """Return all pieces of an answer."""
    async with contextlib.aclosing(provider.stream(request, ROUTE)) as stream:
        return [piece async for chunk in stream for piece in chunk.entries]


def bodies(provider):
    """Return what was asked, without the messages."""
    asked = [json.loads(request.content) for request in provider.asked]
    return [
        {
            name: value
            for name, value in body.items()
            if name in ("max_tokens", "max_completion_tokens", "stream_options")
        }
        for body in asked
    ]


async def test_what_is_asked(provider):
    """The address, the key's header and the body are the API's, and nothing is compressed."""
    own = provider(httpx.Response(200, content=WHOLE))
    assert await pieces(own) == [Piece("delta", "a")]
    (asked,) = own.asked
    assert (asked.method, str(asked.url)) == ("POST", "https://openai.test/v1/chat/completions")
    assert asked.headers["authorization"] == "Bearer secret-key"
    assert asked.headers["accept-encoding"] == "identity"
    assert json.loads(asked.content)["messages"] == [{"role": "user", "content": "hi"}]


class Cut(httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, body):
        self.body = body

    async def __aiter__(self):
        """Give what there is of it."""
        yield self.body
        raise httpx.ReadError("cut")


async def test_a_cut_behind_the_last_choice_is_none(provider):
    """Many a server breaks off there; in front of it something is missing."""
    said = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    other = said.replace(b'{"delta', b'{"index":1,"delta').replace(b'"stop"', b"null")
    own = provider(httpx.Response(200, stream=Cut(said)), httpx.Response(200, stream=Cut(other + said)))
    assert await pieces(own) == [Piece("delta", "a")]
    with pytest.raises(ProviderError, match="cut"):
        await pieces(own)


async def test_what_a_server_knows_is_found_out_once(provider):
    """A request with names it does not know is sent again with others, and so are the next ones at once."""
    own = provider(
        refusing("Unrecognized request argument supplied: stream_options"),
        refusing("Unsupported parameter: 'max_tokens' is not supported with this model."),
        httpx.Response(200, content=WHOLE),
        httpx.Response(200, content=WHOLE),
    )
    await pieces(own)
    await pieces(own)
    assert bodies(own) == [
        {"max_tokens": 9, "stream_options": {"include_usage": True}},
        {"max_tokens": 9},
        {"max_completion_tokens": 9},
        {"max_completion_tokens": 9},
    ]


async def test_names_are_tried_once_each(provider):
    """A server that knows neither is not asked for ever, and nothing is learnt from it."""
    told = refusing("max_tokens and max_completion_tokens are not supported")
    own = provider(told, told, httpx.Response(200, content=WHOLE))
    with pytest.raises(ProviderError, match="are not supported"):
        await pieces(own)
    await pieces(own)
    assert [list(body)[-1] for body in bodies(own)] == ["max_tokens", "max_completion_tokens", "max_tokens"]


async def test_nothing_else_is_tried_again(provider):
    """Whoever calls decides, by the error's fields."""
    own = provider(refusing("Slow down", 429))
    with pytest.raises(ProviderError) as raised:
        await pieces(own)
    assert (raised.value.status, raised.value.retryable, len(own.asked)) == (429, True, 1)


async def test_a_request_that_cannot_be_sent_is_not_sent(provider):
    """A field that cannot be said reaches no server."""
    own = provider()
    with pytest.raises(ProviderError, match="takes no topK"):
        await pieces(own, ProviderRequest("gpt", REQUEST.contents, None, {"topK": 3}))
    assert own.asked == []


async def test_the_key_is_in_no_message(provider):
    """A server that repeats it is not repeated."""
    own = provider(refusing("Incorrect API key provided: secret-key", 401))
    with pytest.raises(ProviderError) as raised:
        await pieces(own)
    assert "secret-key" not in str(raised.value)
    assert raised.value.doubts_key


async def test_warm_and_prove_ask_for_the_models(provider):
    """Which any key in force may; a server without them is warm, but proves nothing."""
    answers = [httpx.Response(200, json={}), refusing("No", 401)]
    own = provider(httpx.Response(200, json={}), refusing("None here", 404), refusing("No", 401), *answers)
    assert [await own.warm(ROUTE) for _ in range(3)] == [True, True, False]
    await own.prove(ROUTE)
    with pytest.raises(ProviderError, match="401"):
        await own.prove(ROUTE)
    assert {(one.method, str(one.url)) for one in own.asked} == {("GET", "https://openai.test/v1/models")}


async def test_there_is_nothing_to_upload_to(provider):
    """Both ways say so."""
    own = provider()
    for refused in (own.upload(b"", "image/png", ROUTE), own.discard("x", ROUTE)):
        with pytest.raises(ProviderError, match="takes no files by address") as raised:
            await refused
        assert raised.value.code == "unsupported"
