"""Streams from the emulator over real connections: when chunks come, what a cut does, what failures are called."""

import asyncio
import contextlib
import ssl

import httpx
import pytest
from google import genai
from google.genai import types

from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.connections import PoolOptions
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.seam import ProviderRequest, Route

MODEL = "gemini-3-pro-preview"
FOR_EVER = 3600.0


def asking(text, **config):
    """Return a request."""
    return ProviderRequest(MODEL, [{"role": "user", "parts": [{"text": text}]}], None, config)


@pytest.fixture
def route(own_emulator):
    """Return the way to the emulator."""
    return Route("emulator", own_emulator.url, "a-key", str(own_emulator.ca_file))


@pytest.fixture
async def provider():
    """Return a provider that is closed afterwards."""
    async with GeminiProvider() as opened:
        yield opened


async def collect(provider, request, route):
    """Return all chunks of an answer."""
    async with contextlib.aclosing(provider.stream(request, route)) as stream:
        return [chunk async for chunk in stream]


async def refusal(provider, request, route):
    """Return the error of a request that fails."""
    with pytest.raises(ProviderError) as raised:
        await collect(provider, request, route)
    return raised.value


async def seen(emulator, **bounds):
    """Wait up to a second until the emulator has seen that much."""
    return await asyncio.to_thread(emulator.wait, 1.0, **bounds)


async def test_a_chunk_is_delivered_while_the_next_one_is_far(provider, route, own_emulator):
    """The first chunk comes although the second never does: nothing on the way waits for more."""
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    async with contextlib.aclosing(provider.stream(asking("hi"), route)) as stream:
        chunk = await asyncio.wait_for(anext(stream), 5)
        assert [piece.kind for piece in chunk.entries] == ["delta"]
        assert (await seen(own_emulator, live_at_least=1))["totals"]["finished"] == 0


async def test_closing_early_resets_the_stream_at_once(provider, route, own_emulator):
    """`aclose` reaches the server within a second, and the connection goes on."""
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    stream = provider.stream(asking("hi"), route)
    await anext(stream)
    await stream.aclose()
    assert (await seen(own_emulator, cancelled_at_least=1, live_at_most=0))["totals"]["connections_open"] == 1
    assert provider.counters(route).live_streams == 0


async def test_cancelling_the_task_resets_the_stream_at_once(provider, route, own_emulator):
    """A task cancelled while it waits for the next chunk leaves nothing running at the server."""
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    began = asyncio.Event()

    async def read():
        async with contextlib.aclosing(provider.stream(asking("hi"), route)) as stream:
            async for _ in stream:
                began.set()

    task = asyncio.create_task(read())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await seen(own_emulator, cancelled_at_least=1, live_at_most=0)
    assert provider.counters(route).live_streams == 0


async def test_leaving_resets_the_stream_wherever_it_is(provider, route, own_emulator):
    """Of 150 streams 74 are left before their heads, 74 between two chunks: within a second; the two others go on."""
    own_emulator.set(ttft=0, tpot=FOR_EVER)
    talking = [provider.stream(asking("hi"), route) for _ in range(75)]
    await asyncio.gather(*(anext(stream) for stream in talking))
    own_emulator.set(ttft=FOR_EVER, tpot=FOR_EVER)
    thinking = [asyncio.create_task(collect(provider, asking("hi"), route)) for _ in range(75)]
    await seen(own_emulator, live_at_least=150)
    for task in thinking[1:]:
        task.cancel()
    await asyncio.gather(*(stream.aclose() for stream in talking[1:]))
    assert (await seen(own_emulator, cancelled_at_least=148))["totals"]["live"] == 2
    assert all(task.cancelled() for task in thinking[1:])
    assert not thinking[0].done()
    assert provider.counters(route).live_streams == 2
    await talking[0].aclose()
    thinking[0].cancel()
    await seen(own_emulator, cancelled_at_least=150, live_at_most=0)


async def test_an_answer_that_never_begins_is_a_read_timeout(route, own_emulator):
    """The server is not left thinking for longer than the read timeout."""
    own_emulator.set(ttft=FOR_EVER)
    async with GeminiProvider(GeminiOptions(pool=PoolOptions(ConnectionOptions(read_timeout=0.3)))) as impatient:
        found = await refusal(impatient, asking("hi"), route)
        assert (found.code, found.retryable) == ("read_timeout", True)
        assert (await seen(own_emulator, cancelled_at_least=1))["totals"]["live"] == 0


async def test_closing_does_not_wait_for_answers(provider, route, own_emulator):
    """A worker that stops is not held up by an answer that never begins; whoever waits for it is told."""
    own_emulator.set(ttft=FOR_EVER)
    waiting = asyncio.create_task(refusal(provider, asking("hi"), route))
    await seen(own_emulator, live_at_least=1)
    async with asyncio.timeout(2):
        await provider.aclose()
        assert (await waiting).code == "connection_lost"


async def test_the_answer_is_the_one_google_genai_reads(provider, route, own_emulator):
    """Text, thoughts, finish reason and usage of a whole answer agree with the SDK's."""
    request = asking("What is a queue?", maxOutputTokens=25, thinkingConfig={"includeThoughts": True})
    said = await collect(provider, request, route)
    tls = ssl.create_default_context(cafile=own_emulator.ca_file)
    async with httpx.AsyncClient(verify=tls, http2=True, trust_env=False) as http:
        options = types.HttpOptions(httpx_async_client=http, base_url=route.base_url, api_version="v1beta")
        models = genai.Client(api_key="a-key", http_options=options).aio.models
        stream = await models.generate_content_stream(model=MODEL, contents=request.contents, config=request.config)
        responses = [response async for response in stream]
    parts = [part for response in responses for part in response.candidates[0].content.parts]
    for kind, thought in (("delta", False), ("thought", True)):
        ours = [piece.text for chunk in said for piece in chunk.entries if piece.kind == kind]
        theirs = [part.text for part in parts if part.text and bool(part.thought) is thought]
        assert ours == theirs
        assert ours
    assert said[-1].finish_reason == responses[-1].candidates[0].finish_reason.value == "MAX_TOKENS"
    assert said[-1].usage["totalTokenCount"] == responses[-1].usage_metadata.total_token_count


async def test_a_read_timeout_bounds_each_wait_and_not_the_sum(route, own_emulator):
    """An answer that takes longer than the timeout passes while its chunks come in time; a silence does not."""
    connection = ConnectionOptions(read_timeout=0.5)
    async with GeminiProvider(GeminiOptions(pool=PoolOptions(connection))) as impatient:
        own_emulator.set(ttft=0.1, tpot=0.1, tokens=8)
        assert len(await collect(impatient, asking("hi"), route)) == 8
        own_emulator.set(ttft=0, tpot=FOR_EVER)
        found = await refusal(impatient, asking("hi"), route)
    assert (found.code, found.retryable) == ("read_timeout", True)
    await seen(own_emulator, cancelled_at_least=1)


async def test_refusals_have_googles_code(provider, own_emulator):
    """A wrong key and an unknown model are named, and not worth another try."""
    ca_file = str(own_emulator.ca_file)
    wrong_key = await refusal(provider, asking("hi"), Route("r", own_emulator.url, "wrong-key", ca_file))
    assert (wrong_key.code, wrong_key.status, wrong_key.retryable) == ("INVALID_ARGUMENT", 400, False)
    unknown = await refusal(provider, ProviderRequest("no-model", []), Route("r", own_emulator.url, "k", ca_file))
    assert (unknown.code, unknown.status, unknown.retryable) == ("NOT_FOUND", 404, False)


async def test_a_server_without_a_trusted_certificate_is_not_talked_to(provider, own_emulator):
    """Without the CA file the connection is refused, and the error says why."""
    found = await refusal(provider, asking("hi"), Route("r", own_emulator.url, "k"))
    assert found.code == "connect_error"
    assert "certificate" in found.message
    assert own_emulator.stats()["totals"]["requests"] == 0


async def test_a_key_that_no_header_can_hold_is_told_without_the_key(provider, route):
    """A line end in the key is a mistake in the settings: named, not sent, not quoted."""
    found = await refusal(provider, asking("hi"), Route("r", route.base_url, "sec\nret", route.ca_file))
    assert (found.code, found.retryable) == ("invalid_header", False)
    assert "ret" not in str(found.__cause__)


async def test_proxies_of_the_environment_are_not_used(provider, route, monkeypatch):
    """HTTPS_PROXY does not redirect a worker."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await collect(provider, asking("hi"), route))[-1].finish_reason == "STOP"


async def test_no_cancellation_is_swallowed(provider, route, own_emulator):
    """A cancel that comes just as a chunk does ends the stream like any other."""
    own_emulator.set(ttft=0.01, tpot=0.002, tokens=2000)
    streams = [asyncio.create_task(collect(provider, asking(f"question {n}"), route)) for n in range(80)]
    loop = asyncio.get_running_loop()
    for number, stream in enumerate(streams):
        loop.call_later(0.2 + number * 0.0037, stream.cancel)
    await asyncio.wait(streams, timeout=30)
    assert [stream.cancelled() for stream in streams] == [True] * len(streams)
