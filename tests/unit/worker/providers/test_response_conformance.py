"""google-genai reads the same bytes; ours must find the same in them, wherever they are cut."""

import asyncio
import base64
import json
from itertools import pairwise

import httpx
import pytest
from google import genai
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genqueue_worker.providers.gemini_stream import StreamReader

TEXTS = st.text(st.sampled_from('ab \n\r\u2028\u2029\u0085é😀"\\{}:'), max_size=6)
SIGNATURES = st.binary(min_size=1, max_size=5).map(lambda raw: base64.b64encode(raw).decode())
ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "snake_key"]), st.none() | st.booleans() | st.floats(-2, 2) | TEXTS
)
PARTS = st.one_of(
    st.fixed_dictionaries({"text": TEXTS}, optional={"thought": st.booleans(), "thoughtSignature": SIGNATURES}),
    st.fixed_dictionaries(
        {
            "functionCall": st.fixed_dictionaries(
                {"name": st.just("f"), "args": ARGUMENTS}, optional={"id": st.just("i")}
            )
        },
        optional={"thoughtSignature": SIGNATURES},
    ),
    st.just({"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
)
USAGES = st.fixed_dictionaries(
    {"promptTokenCount": st.integers(0, 9), "totalTokenCount": st.integers(0, 9)},
    optional={"thoughtsTokenCount": st.integers(0, 9)},
)
CANDIDATES = st.fixed_dictionaries(
    {"content": st.fixed_dictionaries({"role": st.just("model")}, optional={"parts": st.lists(PARTS, max_size=3)})},
    optional={"index": st.just(0)},
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"candidates": st.lists(CANDIDATES, min_size=1, max_size=1)},
        optional={
            "usageMetadata": USAGES,
            "modelVersion": st.just("m-1"),
            "responseId": st.just("r"),
            "new": st.just([1]),
        },
    ),
    min_size=1,
    max_size=4,
)


class Sdk:
    """google-genai reading bodies we give it."""

    def __init__(self):
        self._runner = asyncio.Runner()
        self._chunks = []
        self._http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        options = types.HttpOptions(httpx_async_client=self._http, base_url="https://gemini.test")
        self._client = genai.Client(api_key="k", http_options=options)

    async def _answer(self, request):
        async def body():
            for chunk in self._chunks:
                yield chunk

        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body())

    def read(self, chunks):
        """Return the responses the SDK finds in a body that arrives in these chunks."""
        self._chunks = chunks
        return self._runner.run(self._read())

    async def _read(self):
        stream = await self._client.aio.models.generate_content_stream(model="m", contents="hi")
        return [response async for response in stream]

    def close(self):
        """Close the SDK's client and the loop it ran on."""
        self._runner.run(self._http.aclose())
        self._runner.run(self._client.aio.aclose())
        self._runner.close()


@pytest.fixture(scope="module")
def sdk():
    """One SDK client for all bodies."""
    client = Sdk()
    yield client
    client.close()


def found_by_sdk(responses):
    """Sum up what the SDK found."""
    parts = [part for response in responses for part in response.candidates[0].content.parts or ()]
    usages = [response.usage_metadata for response in responses if response.usage_metadata is not None]
    return {
        "text": "".join(part.text for part in parts if part.text and not part.thought),
        "thoughts": "".join(part.text for part in parts if part.text and part.thought),
        "calls": [part.function_call for part in parts if part.function_call],
        "images": sum(part.inline_data is not None for part in parts),
        "signatures": [part.thought_signature for part in parts if part.thought_signature],
        "finish_reason": responses[-1].candidates[0].finish_reason.value,
        "usage": usages[-1] if usages else None,
        "model": next((response.model_version for response in responses if response.model_version), None),
    }


def found_by_us(chunks):
    """Sum up what we found, as the SDK's types where it is more than text."""
    reader = StreamReader()
    said = [chunk for raw in chunks for chunk in reader.feed(raw)]
    said += reader.close()
    pieces = [piece for chunk in said for piece in chunk.entries]
    parts = [json.loads(piece.json) for piece in pieces if piece.kind == "part"]
    usages = [chunk.usage for chunk in said if chunk.usage is not None]
    usage_type = types.GenerateContentResponseUsageMetadata
    return {
        "text": "".join(piece.text for piece in pieces if piece.kind == "delta"),
        "thoughts": "".join(piece.text for piece in pieces if piece.kind == "thought"),
        "calls": [types.FunctionCall.model_validate(p["functionCall"]) for p in parts if "functionCall" in p],
        "images": sum("inlineData" in part for part in parts),
        "signatures": [base64.b64decode(p["thoughtSignature"]) for p in parts if "thoughtSignature" in p],
        "finish_reason": [chunk.finish_reason for chunk in said if chunk.finish_reason][-1],
        "usage": usage_type.model_validate(usages[-1]) if usages else None,
        "model": next((chunk.model_version for chunk in said if chunk.model_version), None),
    }


def body_of(messages, finish_reason, line_end, *, escaped):
    """Write messages as Gemini does, the last with a finish reason."""
    messages[-1]["candidates"][0]["finishReason"] = finish_reason
    events = (json.dumps(message, ensure_ascii=escaped) for message in messages)
    return "".join(f"data: {event}{line_end}{line_end}" for event in events).encode()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    messages=MESSAGES,
    finish_reason=st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]),
    line_end=st.sampled_from(["\r\n", "\n"]),
    escaped=st.booleans(),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
def test_we_find_in_a_body_what_the_sdk_finds(sdk, messages, finish_reason, line_end, escaped, cuts):
    """Text, thoughts, calls, signatures, finish reason, usage and model agree, with the bytes cut anywhere."""
    body = body_of(messages, finish_reason, line_end, escaped=escaped)
    ends = sorted({0, len(body), *(int(cut * len(body)) for cut in cuts)})
    chunks = [body[start:end] for start, end in pairwise(ends)]
    assert found_by_us(chunks) == found_by_sdk(sdk.read(chunks))
