"""google-genai reads the same bytes; ours must find the same in them, wherever they are cut."""

import asyncio
import json
from itertools import pairwise

import httpx
import pytest
from google import genai
from google.genai import errors, models, types
from google.oauth2.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genqueue_worker.providers.gemini_stream import StreamReader

from .response_corpus import CORPUS, CORPUS_OF_ONE, FRAMINGS, FRAMINGS_OF_THE_STANDARD, said

TEXTS = st.text(st.sampled_from('ab \n\r\u2028\u2029\u0085é😀"\\{}:'), max_size=6)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "snake_key"]), st.none() | st.booleans() | st.floats(-2, 2) | TEXTS
)
PARTS = st.one_of(
    st.fixed_dictionaries({"text": TEXTS}, optional={"thought": st.booleans(), "thoughtSignature": st.just("AQI=")}),
    st.fixed_dictionaries(
        {
            "functionCall": st.fixed_dictionaries(
                {"name": st.just("f"), "args": ARGUMENTS}, optional={"id": st.just("i")}
            )
        },
        optional={"thoughtSignature": st.just("AQI=")},
    ),
    st.just({"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
)
USAGES = st.fixed_dictionaries(
    {"promptTokenCount": st.integers(0, 9), "totalTokenCount": st.integers(0, 9)},
    optional={"thoughtsTokenCount": st.integers(0, 9)},
)
MESSAGES = st.builds(
    lambda parts, rest: said(*parts, **rest),
    st.lists(PARTS, max_size=3),
    st.fixed_dictionaries({}, optional={"usageMetadata": USAGES, "modelVersion": st.just("m-1"), "new": st.just([1])}),
)
STREAMS = st.builds(
    lambda messages, finish: [*messages, said(finish=finish)],
    st.lists(MESSAGES, max_size=4),
    st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]),
)

#: What a candidate tells besides its content, by google-genai's names.
EXTRAS = {
    "finish_message",
    "citation_metadata",
    "grounding_metadata",
    "url_context_metadata",
    "avg_logprobs",
    "logprobs_result",
    "continuation_token",
}


class Sdk:
    """google-genai reading bodies we give it."""

    def __init__(self, **access):
        self._runner = asyncio.Runner()
        self._chunks = []
        self._http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        options = types.HttpOptions(httpx_async_client=self._http, base_url="https://gemini.test")
        self._client = genai.Client(http_options=options, **access)

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


#: How the SDK is let in to each surface, and how it reads that one's messages.
SURFACES = {
    "gemini": ({"api_key": "k"}, models._GenerateContentResponse_from_mldev),
    "vertex": (
        {"vertexai": True, "project": "p", "location": "global", "credentials": Credentials("t")},
        models._GenerateContentResponse_from_vertex,
    ),
}


@pytest.fixture(scope="module", params=SURFACES)
def sdk(request):
    """One SDK client for all bodies of a surface."""
    access, convert = SURFACES[request.param]
    client = Sdk(**access)
    client.understood = lambda **message: types.GenerateContentResponse.model_validate(convert(message))
    yield client
    client.close()


def plain(model):
    """Return one of the SDK's objects as plain values."""
    return model.model_dump(exclude_none=True, mode="json")


def found_by_sdk(responses):
    """Return what the SDK found, in order: what was said, and what else each message told."""
    found = []
    for response in responses:
        finish = None
        for candidate in response.candidates or ():
            if candidate.index:
                found.append(("candidate", plain(candidate)))
                continue
            finish = candidate.finish_reason or finish
            found.extend(
                fact for part in (candidate.content and candidate.content.parts) or () for fact in facts_of(part)
            )
            if extras := extras_of(candidate):
                found.append(("candidate", extras))
        feedback = response.prompt_feedback
        if feedback is not None:
            found.append(("prompt", plain(feedback)))
        found.append(("finish", finish.value if finish else None))
        found.append(("usage", response.usage_metadata and plain(response.usage_metadata)))
        found.append(("model", response.model_version))
    return found


def facts_of(part):
    """Yield what one part says: text and what it carries, or a whole part."""
    fields = plain(part)
    rider = {name: value for name, value in fields.items() if name not in {"text", "thought"}}
    if part.text:
        yield "thought" if part.thought else "delta", part.text
        if rider:
            yield "text", rider
    elif rider:
        yield "part", fields


def extras_of(candidate):
    """Return what a candidate tells besides its content; ratings that find nothing are no news."""
    fields = plain(candidate)
    extras = {name: value for name, value in fields.items() if name in EXTRAS}
    ratings = candidate.safety_ratings or ()
    finish = candidate.finish_reason and candidate.finish_reason.value
    if any(rating.blocked for rating in ratings) or (ratings and finish not in {None, "STOP", "MAX_TOKENS"}):
        extras["safety_ratings"] = fields["safety_ratings"]
    return extras


def found_by_us(chunks, understood):
    """Return what we found, as the SDK understands it where it is more than text."""
    reader = StreamReader()
    read = [chunk for raw in chunks for chunk in reader.feed(raw)]
    read += reader.close()
    found = []
    for chunk in read:
        for piece in chunk.entries:
            found += [read_back(piece, understood)] if piece.kind == "part" else [(piece.kind, piece.text)]
        usage = chunk.usage and plain(understood(usageMetadata=chunk.usage).usage_metadata)
        found += [("finish", chunk.finish_reason), ("usage", usage), ("model", chunk.model_version)]
    return found


def read_back(piece, understood):
    """Return what JSON was about and says."""
    said = json.loads(piece.json)
    if piece.about == "prompt":
        return "prompt", plain(understood(promptFeedback=said).prompt_feedback)
    if piece.about == "candidate":
        return "candidate", plain(understood(candidates=[said]).candidates[0])
    return piece.about, plain(understood(candidates=[{"content": {"parts": [said]}}]).candidates[0].content.parts[0])


def cut(body, cuts):
    """Return a body in pieces."""
    ends = sorted({0, len(body), *(int(where * len(body)) for where in cuts)})
    return [body[start:end] for start, end in pairwise(ends)]


EVERY_KIND = {(surface, name): CORPUS[name] for surface in SURFACES for name in CORPUS} | CORPUS_OF_ONE


@pytest.mark.parametrize(
    ("sdk", "messages"),
    [(surface, messages) for (surface, _), messages in EVERY_KIND.items()],
    indirect=["sdk"],
    ids=["-".join(names) for names in EVERY_KIND],
)
def test_we_find_in_every_kind_of_answer_what_the_sdk_finds(sdk, messages):
    """In every way of writing it that the SDK can read, whole and byte by byte."""
    for write in FRAMINGS.values():
        body = write(messages)
        found = found_by_sdk(sdk.read([body]))
        assert found_by_us([body], sdk.understood) == found
        assert found_by_us([body[at : at + 1] for at in range(len(body))], sdk.understood) == found


@pytest.mark.parametrize("write", FRAMINGS_OF_THE_STANDARD.values(), ids=FRAMINGS_OF_THE_STANDARD.keys())
def test_we_read_what_the_standard_allows_and_the_sdk_does_not(sdk, write):
    """Comments, other fields, a byte order mark and a missing space mean nothing; the SDK takes them for an answer."""
    for messages in CORPUS.values():
        body = write(messages)
        found = found_by_us([FRAMINGS["LF"](messages)], sdk.understood)
        assert found_by_us([body], sdk.understood) == found
        assert found_by_us([body[at : at + 1] for at in range(len(body))], sdk.understood) == found
    with pytest.raises(errors.UnknownApiResponseError):
        sdk.read([write(CORPUS["text"])])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    messages=STREAMS | st.sampled_from([*CORPUS.values()]),
    write=st.sampled_from([*FRAMINGS.values()]),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
def test_we_find_the_same_wherever_the_bytes_are_cut(sdk, messages, write, cuts):
    """In the middle of a character, between CR and LF, or of a line: the SDK gets the same pieces."""
    chunks = cut(write(messages), cuts)
    assert found_by_us(chunks, sdk.understood) == found_by_sdk(sdk.read(chunks))
