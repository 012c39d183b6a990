import asyncio
import os
import subprocess
import sys

import httpx
import httpx2
import pytest
from google import genai
from google.genai import errors, types

MODEL = "gemini-2.5-flash"


@pytest.fixture
def client(emulator):
    """Return Google's own client for the emulator, on its default HTTP package."""
    arguments = {"verify": emulator.trust()}
    options = types.HttpOptions(base_url=emulator.url, client_args=arguments, async_client_args=arguments)
    with genai.Client(api_key="key", http_options=options) as client:
        yield client


@pytest.fixture
def connect(emulator):
    """Return a function that makes a client of Google's with another key or its own HTTP client."""
    made = []

    def connect(api_key="key", **options):
        options.setdefault("client_args", {"verify": emulator.trust()})
        client = genai.Client(api_key=api_key, http_options=types.HttpOptions(base_url=emulator.url, **options))
        made.append(client)
        return client

    yield connect
    for client in made:
        client.close()


def test_generate_content(client):
    """A whole answer has text, a finish reason, usage, the model's version and Google's header fields."""
    answer = client.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    assert len(answer.text.split()) == 40
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    assert answer.usage_metadata.total_token_count == answer.usage_metadata.prompt_token_count + 40
    assert answer.model_version == MODEL
    assert answer.response_id
    assert answer.sdk_http_response.headers["x-gemini-service-tier"] == "standard"


def test_generate_content_stream(client):
    """A stream has one chunk for each token and adds up to the whole answer."""
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="Why is the sky blue?"))
    assert len(chunks) == 40
    assert {chunk.candidates[0].finish_reason for chunk in chunks[:-1]} == {None}
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.STOP
    assert [chunk.usage_metadata.candidates_token_count for chunk in chunks] == list(range(1, 41))
    whole = client.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    assert "".join(chunk.text for chunk in chunks) == whole.text


async def test_the_asynchronous_client(own_emulator, web):
    """The async half does the same, streams included."""
    # On httpx whatever else is installed: the client would take aiohttp when it is there.
    options = types.HttpOptions(base_url=own_emulator.url, httpx_async_client=web)
    async with genai.Client(api_key="key", http_options=options).aio as aio:
        whole, stream = await asyncio.gather(
            aio.models.generate_content(model=MODEL, contents="hello"),
            aio.models.generate_content_stream(model=MODEL, contents="hello"),
        )
        assert "".join([chunk.text async for chunk in stream]) == whole.text
        assert (await aio.models.count_tokens(model=MODEL, contents="hello")).total_tokens == 2
        with pytest.raises(errors.ClientError, match="is not found for API version"):
            await aio.models.generate_content(model="gemini-9", contents="hello")


@pytest.fixture
async def web(own_emulator):
    """Return an httpx client that speaks HTTP/2 only."""
    transport = httpx.AsyncHTTPTransport(verify=own_emulator.trust(), http1=False, http2=True)
    async with httpx.AsyncClient(transport=transport, timeout=60) as web:
        yield web


@pytest.fixture
def http2_client(own_emulator, web):
    """Return Google's client over that httpx client."""
    options = types.HttpOptions(base_url=own_emulator.url, httpx_async_client=web)
    with genai.Client(api_key="key", http_options=options) as client:
        yield client


async def read(client, question):
    """Stream one answer and return its text."""
    stream = await client.aio.models.generate_content_stream(model=MODEL, contents=question)
    return "".join([chunk.text async for chunk in stream])


async def test_streams_share_an_http2_connection(own_emulator, http2_client):
    """Streams at once over HTTP/2 use one connection, and each gets the answer to its own question."""
    questions = [f"question {number}" for number in range(20)]
    answers = await asyncio.gather(*(read(http2_client, question) for question in questions))
    assert len(set(answers)) == 20
    assert await read(http2_client, questions[7]) == answers[7]
    (connection,) = own_emulator.stats()["connections"]
    assert (connection["protocol"], connection["streams"]) == ("h2", 21)


async def test_live_streams_are_counted_exactly(own_emulator, http2_client, web):
    """Fifty streams that wait are fifty live streams at the server, and all of them end when the client closes."""
    with own_emulator.paced(ttft=3600):
        asking = [asyncio.create_task(read(http2_client, "wait")) for _ in range(50)]
        seen = await asyncio.to_thread(own_emulator.wait, 30, live_at_least=50)
        assert (seen["totals"]["peak"], seen["connections"][0]["peak"]) == (50, 50)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await web.aclose()  # httpx resets no stream of its own accord
        seen = await asyncio.to_thread(own_emulator.wait, 30, cancelled_at_least=50)
    assert seen["totals"]["live"] == 0


def test_a_stream_that_is_left_is_seen_as_cancelled(own_emulator):
    """A client that stops reading and closes is recorded as gone, not as answered."""
    options = types.HttpOptions(base_url=own_emulator.url, client_args={"verify": own_emulator.trust()})
    with genai.Client(api_key="key", http_options=options) as client, own_emulator.paced(tpot=600):
        stream = client.models.generate_content_stream(model=MODEL, contents="hello")
        assert next(stream).text
        stream.close()
    (record,) = own_emulator.wait(cancelled_at_least=1)["requests"]
    assert (record["cancelled"], record["chunks"], record["status"]) == (True, 1, 200)


def test_count_tokens_and_models(client):
    """Tokens are counted, and the models come page by page and one by one."""
    assert client.models.count_tokens(model=MODEL, contents="hello there").total_tokens == 3
    names = [model.name for model in client.models.list(config={"page_size": 2})]
    assert f"models/{MODEL}" in names
    assert len(names) == len(set(names)) > 4
    model = client.models.get(model=MODEL)
    assert (model.input_token_limit, model.output_token_limit) == (1_048_576, 65_536)


def test_thoughts_and_limits(client):
    """Thoughts arrive as thought parts and are counted; maxOutputTokens ends with MAX_TOKENS."""
    config = {"thinking_config": {"include_thoughts": True}, "max_output_tokens": 20}
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="hello", config=config))
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert [bool(part.thought) for part in parts] == [True] * 8 + [False] * 12
    assert chunks[-1].usage_metadata.thoughts_token_count == 8
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.MAX_TOKENS


def test_structured_output(client):
    """A response schema gives JSON that the client parses into the declared shape."""
    schema = types.Schema(
        type=types.Type.OBJECT,
        properties={"title": types.Schema(type=types.Type.STRING), "pages": types.Schema(type=types.Type.INTEGER)},
        required=["title", "pages"],
    )
    config = {"response_mime_type": "application/json", "response_schema": schema}
    parsed = client.models.generate_content(model=MODEL, contents="a book", config=config).parsed
    assert set(parsed) == {"title", "pages"}
    assert isinstance(parsed["pages"], int)


def test_function_calling_goes_round(client):
    """Google's automatic function calling calls the function and sends its result, signature included."""
    cities = []

    def weather(city: str) -> str:
        """Tell the weather in a city."""
        cities.append(city)
        return "rain"

    answer = client.models.generate_content(
        model="gemini-3-pro-preview", contents="call weather", config={"tools": [weather]}
    )
    assert len(cities) == 1
    assert answer.text


@pytest.mark.parametrize(
    ("arguments", "code", "status", "sentence"),
    [
        ({"config": {"temperature": 3}}, 400, "INVALID_ARGUMENT", "temperature must be in the range [0.0, 2.0]"),
        ({"model": "gemini-9"}, 404, "NOT_FOUND", "models/gemini-9 is not found for API version"),
        ({"contents": types.Content(role="user", parts=[])}, 400, "INVALID_ARGUMENT", "contents.parts must not be"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_errors_are_googles(client, arguments, code, status, sentence, streamed):
    """The client raises its ClientError with the code, status and message of the real service."""
    call = client.models.generate_content_stream if streamed else client.models.generate_content
    with pytest.raises(errors.ClientError) as caught:
        list(call(**{"model": MODEL, "contents": "hello", **arguments}))
    assert (caught.value.code, caught.value.status) == (code, status)
    assert sentence in caught.value.message


def test_a_wrong_key_is_googles_error(connect):
    """A wrong key is 400 with the reason API_KEY_INVALID."""
    with pytest.raises(errors.ClientError) as caught:
        connect(api_key="wrong").models.generate_content(model=MODEL, contents="hello")
    assert (caught.value.code, caught.value.message) == (400, "API key not valid. Please pass a valid API key.")
    assert caught.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_the_environment_is_enough(emulator):
    """With the printed variables set, a program that knows nothing of the emulator talks to it."""
    program = (
        "from google import genai\n"
        "with genai.Client() as client:\n"
        f"    print(client.models.generate_content(model={MODEL!r}, contents='hello').model_version)\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "GEMINI_API_KEY": "emulator",
        "GOOGLE_GEMINI_BASE_URL": emulator.url,
        "SSL_CERT_FILE": str(emulator.ca_file),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == (f"{MODEL}\n", 0), done.stderr


def test_rich_answers_are_read_by_the_sdk(client):
    """Signed text, images, citations, sources and refusals arrive where google-genai's users look for them."""
    thinking = types.ThinkingConfig(include_thoughts=True)
    config = types.GenerateContentConfig(
        thinking_config=thinking,
        response_modalities=["TEXT", "IMAGE"],
        tools=[types.Tool(google_search=types.GoogleSearch())],
    )
    answer = client.models.generate_content(
        model="gemini-3-pro-preview", contents="cite https://example.com/a", config=config
    )
    (candidate,) = answer.candidates
    assert candidate.citation_metadata.citations[0].uri == "https://example.com/a"
    assert candidate.grounding_metadata.grounding_chunks[0].web.uri
    assert candidate.content.parts[-1].inline_data.data.startswith(b"\x89PNG")
    signed = client.models.generate_content(
        model="gemini-3-pro-preview", contents="hello", config={"thinking_config": thinking}
    )
    assert signed.candidates[0].content.parts[-1].thought_signature
    stopped = client.models.generate_content(model="gemini-2.5-flash", contents="stop for safety")
    assert stopped.candidates[0].finish_reason == types.FinishReason.SAFETY
    assert stopped.candidates[0].safety_ratings[0].blocked
    blocked = client.models.generate_content(model="gemini-2.5-flash", contents="block this prompt")
    assert blocked.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT


def ask_through(connect, fault, *, streamed):
    """Ask once through a fault and return the chunks that came before the error, and the error."""
    client = connect(headers={"x-emulator-fault": fault})
    chunks = []
    try:
        if streamed:
            chunks.extend(client.models.generate_content_stream(model=MODEL, contents="hello"))
        else:
            chunks.append(client.models.generate_content(model=MODEL, contents="hello"))
    except (errors.APIError, httpx2.TransportError) as error:
        return len(chunks), error
    return len(chunks), None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "kind", "code", "status"),
    [
        ("status;status=429;retry_info=7", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("status", errors.ServerError, 503, "UNAVAILABLE"),
        ("region_forbidden", errors.ClientError, 403, "PERMISSION_DENIED"),
    ],
)
def test_ordered_errors_are_googles(connect, fault, kind, code, status, streamed):
    """An error that was ordered has its code, status, message and details where google-genai shows them."""
    shown, error = ask_through(connect, fault, streamed=streamed)
    assert (shown, type(error), error.code, error.status) == (0, kind, code, status)
    assert error.message
    if "retry_info" in fault:
        (detail,) = error.details["error"]["details"]
        assert detail == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}


def test_a_quota_used_up_is_googles_error(own_emulator):
    """The request too many raises a ClientError with QuotaFailure and RetryInfo among its details."""
    own_emulator.limit(rpm=1, minute=3600)
    options = types.HttpOptions(base_url=own_emulator.url, client_args={"verify": own_emulator.trust()})
    with genai.Client(api_key="key", http_options=options) as client:
        assert client.models.generate_content(model=MODEL, contents="hello").text
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model=MODEL, contents="hello")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    kinds = [detail["@type"].rpartition(".")[2] for detail in caught.value.details["error"]["details"]]
    assert kinds == ["Help", "QuotaFailure", "RetryInfo"]


@pytest.mark.parametrize(
    ("fault", "shown", "error"),
    [
        ("error_in_stream;after=3", 3, errors.ClientError),
        ("error_in_stream;after=3;data;status=503", 3, errors.ServerError),
        ("truncate;after=3", 3, errors.UnknownApiResponseError),
        ("truncate;after=3;whole", 3, type(None)),
        ("split_json;after=3", 40, type(None)),
        ("reset;after=3", 3, httpx2.TransportError),
        ("disconnect;after=3;tcp=fin", 3, httpx2.TransportError),
    ],
)
def test_a_stream_that_fails_midway_is_read_by_the_sdk(connect, fault, shown, error):
    """The chunks before the fault come, and then the error that google-genai makes of it; some it does not notice."""
    try:
        seen, caught = ask_through(connect, fault, streamed=True)
    except errors.UnknownApiResponseError as unread:
        seen, caught = shown, unread
    assert seen == shown
    assert isinstance(caught, error)
