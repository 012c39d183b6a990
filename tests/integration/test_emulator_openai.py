"""The emulator's chat completions, asked by the openai package itself."""

import asyncio
import json

import httpx2
import openai
import pytest
from pydantic import BaseModel

MODEL = "gpt-4.1-mini"
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
    },
}


class City(BaseModel):
    """What an answer is to be."""

    name: str
    population: int
    districts: list[str]


@pytest.fixture(scope="module")
def client(emulator):
    """Return the package's blocking client for the emulator."""
    http = httpx2.Client(verify=emulator.trust())
    with openai.OpenAI(api_key="key", base_url=f"{emulator.url}/v1", http_client=http, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(emulator):
    """Return the package's asyncio client for the emulator, over HTTP/2."""
    http = httpx2.AsyncClient(verify=emulator.trust(), http2=True)
    settings = {"api_key": "key", "base_url": f"{emulator.url}/v1", "max_retries": 0}
    async with openai.AsyncOpenAI(http_client=http, **settings) as client:
        yield client


def asking(text, **options):
    """Return the arguments of a request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **options}


def refusal(client, kind, **request):
    """Return the package's error for a request, without its own checks on the way."""
    with pytest.raises(kind) as raised:
        client.post("/chat/completions", body=request, cast_to=object)
    return raised.value


def test_a_whole_answer(client):
    """It has text, a finish reason, usage and the model's name."""
    answer = client.chat.completions.create(**asking("Why is the sky blue?"))
    assert len(answer.choices[0].message.content.split()) == 40
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 40
    assert (answer.model, answer.object) == (MODEL, "chat.completion")
    assert answer._request_id.startswith("req_")


async def test_a_stream_adds_up_to_the_whole_answer(client, async_client):
    """One chunk for each token, the role first, the usage last and alone; no usage where nobody asked."""
    asked = asking("Why is the sky blue?")
    stream = await async_client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 40)
    whole = await asyncio.to_thread(client.chat.completions.create, **asked)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    uncounted = [chunk async for chunk in await async_client.chat.completions.create(**asked, stream=True)]
    assert {chunk.usage for chunk in uncounted} == {None}


def test_a_tool_is_called_and_answered(client):
    """The call comes in pieces and has an id, by which its answer is known."""
    asked = asking("call look", tools=[LOOK])
    with client.chat.completions.stream(**asked) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "look"
    assert json.loads(call.function.arguments)["where"]
    answered = {"role": "tool", "tool_call_id": call.id, "content": "snow"}
    asked["messages"] += [message, answered]
    assert client.chat.completions.create(**asked).choices[0].message.content
    asked["messages"].pop()
    with pytest.raises(openai.BadRequestError, match=f"did not have response messages: {call.id}"):
        client.chat.completions.create(**asked)


def test_a_tool_may_be_demanded(client):
    """Any, or one; or none."""
    choice = {"type": "function", "function": {"name": "look"}}
    for demanded in ("required", choice):
        answer = client.chat.completions.create(**asking("hello", tools=[LOOK], tool_choice=demanded))
        assert answer.choices[0].finish_reason == "tool_calls"
    answer = client.chat.completions.create(**asking("call look", tools=[LOOK], tool_choice="none"))
    assert answer.choices[0].message.tool_calls is None


def test_an_answer_follows_a_schema(client):
    """The package reads it into the model it was asked for."""
    answer = client.chat.completions.parse(**asking("A city, please."), response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


def test_several_answers_are_different_ones(client):
    """Each has an index, in one piece and in many."""
    asked = asking("hello", n=3)
    whole = [choice.message.content for choice in client.chat.completions.create(**asked).choices]
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == whole
    assert len(set(whole)) == 3


def test_ends(client):
    """For length, for safety, by a stop sequence; and a refusal instead of an answer."""
    create = client.chat.completions.create
    assert create(**asking("hello", max_tokens=3)).choices[0].finish_reason == "length"
    assert create(**asking("stop for safety")).choices[0].finish_reason == "content_filter"
    words = create(**asking("hello")).choices[0].message.content.split()
    assert create(**asking("hello", stop=f" {words[3]}")).choices[0].message.content.split() == words[:3]
    assert create(**asking("block this prompt")).choices[0].message.refusal.startswith("I'm sorry")


def test_thoughts_are_counted_and_shown_by_some(client):
    """OpenAI's models hide them and take the newer name of the limit alone; others show them."""
    asked = {**asking("hello"), "model": "o4-mini"}
    usage = client.chat.completions.create(**asked).usage
    assert usage.completion_tokens_details.reasoning_tokens == 8
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**asked, max_tokens=9)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "max_tokens")
    shown = client.chat.completions.create(**{**asked, "model": "deepseek-reasoner"})
    assert shown.choices[0].message.model_extra["reasoning_content"]


def test_models(client):
    """They are listed, and one is described."""
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).owned_by == "system"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_keys(emulator, client):
    """One nobody gave out is refused, as is none; the message does not have it."""
    with pytest.raises(openai.AuthenticationError) as raised:
        client.with_options(api_key="wrong-key-12345678").chat.completions.create(**asking("hello"))
    assert raised.value.code == "invalid_api_key"
    assert "wrong-key-12345678" not in str(raised.value)
    with httpx2.Client(verify=emulator.trust()) as http:
        answer = http.post(f"{emulator.url}/v1/chat/completions", json=asking("hello"))
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith("You didn't provide an API key")


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"topK": 3}, "unknown_parameter", "topK"),
        ({"messages": None}, "invalid_type", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, None, "messages.[0].role"),
        ({"tool_choice": "auto"}, None, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, None, "stream_options"),
        ({"response_format": {"type": "json_object"}}, None, "messages"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "strict": True, "schema": {"type": "object", "properties": {}}},
                }
            },
            "invalid_json_schema",
            "response_format",
        ),
    ],
)
def test_what_is_wrong_is_named(client, change, code, param):
    """By the parameter it is about."""
    error = refusal(client, openai.BadRequestError, **{**asking("hello"), **change})
    assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")


def test_other_refusals(client, emulator):
    """An unknown model, an unknown place, and a body that is no JSON."""
    assert refusal(client, openai.NotFoundError, **{**asking("hello"), "model": "nobody"}).code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.post("/chat/nothing", body={}, cast_to=object)
    with httpx2.Client(verify=emulator.trust(), headers={"authorization": "Bearer k"}) as http:
        answer = http.post(f"{emulator.url}/v1/chat/completions", content=b"{")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_quotas_are_geminis(own_emulator):
    """A request too many is told when to come again, three ways."""
    http = httpx2.Client(verify=own_emulator.trust())
    own_emulator.limit(rpm=1, minute=3600, window="sliding")
    settings = {"api_key": "key", "base_url": f"{own_emulator.url}/v1", "max_retries": 0}
    with openai.OpenAI(http_client=http, **settings) as client:
        client.chat.completions.create(**asking("hello"))
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(**asking("hello"))
    headers = raised.value.response.headers
    assert raised.value.code == "rate_limit_exceeded"
    assert 3000 < float(headers["retry-after-ms"]) / 1000 <= float(headers["retry-after"]) <= 3600
    assert headers["x-ratelimit-remaining-requests"] == "0"
    totals = own_emulator.stats(details=False)
    assert (totals["totals"]["calls"], totals["totals"]["completed"], totals["faults"]) == (2, 1, {"quota": 1})
    assert own_emulator.bodies()[0]["model"] == MODEL


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("status;status=500", openai.InternalServerError),
        ("status;status=429;retry_after=7", openai.RateLimitError),
        ("status;status=502", openai.InternalServerError),
        ("region_forbidden", openai.PermissionDeniedError),
        ("error_in_stream;after=2", openai.APIError),
        ("reset;after=2", openai.APIConnectionError),
    ],
)
async def test_faults_are_geminis(async_client, rule, kind):
    """The same rules strike, in OpenAI's words."""
    found = []

    async def read():
        own = {"x-emulator-fault": rule}
        stream = await async_client.chat.completions.create(**asking("hello"), stream=True, extra_headers=own)
        async for chunk in stream:
            found.append(chunk)  # noqa: PERF401 - those before an error count

    with pytest.raises(kind) as raised:
        await read()
    assert bool(found) == ("after=2" in rule)
    if "retry_after" in rule:
        assert raised.value.response.headers["retry-after"] == "7"


def test_a_request_has_a_pace_of_its_own(client):
    """And one that is none is refused."""
    create = client.chat.completions.create
    whole = create(**asking("hello"), extra_headers={"x-emulator-tokens": "5"})
    assert whole.usage.completion_tokens == 5
    with pytest.raises(openai.BadRequestError, match="x-emulator header"):
        create(**asking("hello"), extra_headers={"x-emulator-tokens": "none"})
