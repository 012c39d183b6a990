"""Chat completions from the emulator over real connections."""

import asyncio
import contextlib
import json

import pytest

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai import OpenAIProvider
from genqueue_worker.providers.seam import ProviderRequest, Route

MODEL = "gpt-4.1-mini"
FOR_EVER = 3600.0
LOOK = {
    "name": "look",
    "parameters": {"type": "OBJECT", "properties": {"where": {"type": "STRING"}}, "required": ["where"]},
}


def asking(text, model=MODEL, **config):
    """Return a request."""
    return ProviderRequest(model, [{"role": "user", "parts": [{"text": text}]}], None, config)


@pytest.fixture
def route(emulator):
    """Return the way to the emulator."""
    return Route("openai", f"{emulator.url}/v1", "a-key", str(emulator.ca_file), kind="openai")


@pytest.fixture
def own_route(own_emulator):
    """Return the way to an emulator of the test's own."""
    return Route("openai", f"{own_emulator.url}/v1", "a-key", str(own_emulator.ca_file), kind="openai")


@pytest.fixture
async def provider():
    """Return a provider that is closed afterwards."""
    async with contextlib.aclosing(OpenAIProvider()) as opened:
        yield opened


async def collect(provider, request, route):
    """Return all chunks of an answer."""
    async with contextlib.aclosing(provider.stream(request, route)) as stream:
        return [chunk async for chunk in stream]


def folded(chunks):
    """Return the text, the parts, the finish reason and the usage."""
    pieces = [piece for chunk in chunks for piece in chunk.entries]
    text = "".join(piece.text for piece in pieces if piece.kind == "delta")
    parts = [json.loads(piece.json) for piece in pieces if piece.kind == "part"]
    (finish_reason,) = {chunk.finish_reason for chunk in chunks} - {None}
    return text, parts, finish_reason, [chunk.usage for chunk in chunks if chunk.usage][-1]


async def test_an_answer(provider, route):
    """Text comes token by token, and the usage with the last chunk, over HTTP/2."""
    chunks = await collect(provider, asking("hello"), route)
    text, _, finish_reason, usage = folded(chunks)
    assert len(text.split()) == 40
    assert sum(bool(chunk.entries) for chunk in chunks) == 40
    assert finish_reason == "STOP"
    assert usage == {"promptTokenCount": 2, "candidatesTokenCount": 40, "totalTokenCount": 42}
    assert chunks[-1].model_version == MODEL
    assert provider.counters(route).protocols == {"h2": 1}


async def test_a_call_is_one_part_and_can_be_answered(provider, route):
    """Its id goes back with the answer, which the API checks."""
    request = asking("call look", tools=[{"functionDeclarations": [LOOK]}])
    _, (call,), finish_reason, _ = folded(await collect(provider, request, route))
    assert finish_reason == "STOP"
    assert call["functionCall"]["name"] == "look"
    assert call["functionCall"]["args"]["where"]
    answer = {"name": "look", "id": call["functionCall"]["id"], "response": {"seen": "snow"}}
    request.contents.append({"role": "model", "parts": [call]})
    request.contents.append({"role": "user", "parts": [{"functionResponse": answer}]})
    assert folded(await collect(provider, request, route))[0]


async def test_a_schema_is_followed(provider, route):
    """Strictly, which the API checks."""
    schema = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING"}, "b": {"type": "INTEGER"}},
        "required": ["a", "b"],
    }
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    text = folded(await collect(provider, asking("hello", **config), route))[0]
    assert json.loads(text).keys() == {"a", "b"}


async def test_the_limit_of_tokens_is_said_as_the_model_wants_it(provider, route):
    """A model that knows the newer name alone is asked again, once."""
    for _ in range(2):
        _, _, finish_reason, usage = folded(await collect(provider, asking("hi", "o4-mini", maxOutputTokens=9), route))
        assert (finish_reason, usage["thoughtsTokenCount"]) == ("MAX_TOKENS", 8)
    assert provider.counters(route).requests == 3


async def test_closing_early_resets_the_stream_at_once(provider, own_route, own_emulator):
    """`aclose` reaches the server, and the connection goes on."""
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    stream = provider.stream(asking("hi"), own_route)
    while not (await anext(stream)).entries:
        pass
    await stream.aclose()
    seen = await asyncio.to_thread(own_emulator.wait, 10.0, cancelled_at_least=1, live_at_most=0)
    assert seen["totals"]["connections_open"] == 1
    assert provider.counters(own_route).live_streams == 0


@pytest.mark.parametrize(
    ("rule", "code", "retry_after"),
    [
        ({"kind": "status", "status": 529, "retry_info": 1.5}, "server_error", 1.5),
        ({"kind": "error_in_stream", "after": 2}, "rate_limit_exceeded", None),
        ({"kind": "truncate", "after": 2}, "truncated_stream", None),
        ({"kind": "truncate", "after": 2, "whole": True}, "truncated_stream", None),
        ({"kind": "reset", "after": 2}, "protocol_error", None),
    ],
)
async def test_what_breaks_off_may_be_tried_again(provider, route, emulator, rule, code, retry_after):
    """Before the answer, and in its middle."""
    number = emulator.fault(match=f"break off {rule}", **rule)
    with pytest.raises(ProviderError) as raised:
        await collect(provider, asking(f"break off {rule}"), route)
    emulator.clear_faults(number)
    assert (raised.value.code, raised.value.retryable, raised.value.retry_after) == (code, True, retry_after)


@pytest.mark.parametrize("kind", ["stall", "reset"])
async def test_an_answer_that_has_said_all_is_whole(provider, route, emulator, kind):
    """Whatever becomes of its body behind the last event."""
    number = emulator.fault(kind, match=f"then {kind}", after=41)
    text, _, finish_reason, _ = folded(await collect(provider, asking(f"then {kind}"), route))
    assert (len(text.split()), finish_reason) == (40, "STOP")
    (rule,) = emulator.clear_faults(number)
    assert rule["struck"] == 1


async def test_an_answer_in_small_pieces_is_the_same(provider, route, emulator):
    """The bytes may be cut anywhere."""
    whole = folded(await collect(provider, asking("small pieces"), route))
    number = emulator.fault("split_json", match="small pieces")
    assert folded(await collect(provider, asking("small pieces"), route)) == whole
    emulator.clear_faults(number)


async def test_a_refused_key_is_doubted(provider, route):
    """And the models, of which it may have a list, are not there for it."""
    wrong = Route("openai", route.base_url, "wrong-key-1234567", route.ca_file, kind="openai")
    with pytest.raises(ProviderError) as raised:
        await provider.prove(wrong)
    assert (raised.value.status, raised.value.code, raised.value.doubts_key) == (401, "invalid_api_key", True)
    await provider.prove(route)
    assert await provider.warm(route)
