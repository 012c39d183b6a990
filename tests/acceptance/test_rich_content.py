"""Rich answers through a real worker: what the model said comes back whole, and a chat goes on with it verbatim."""

import asyncio
import base64
import os

import pytest
from acceptance_workers import WorkerProcess
from google.genai import types
from pydantic import BaseModel

from genqueue import AsyncClient, Client, JobFailed
from genqueue.events import text_of
from genqueue_lab.emulator import EmulatorProcess, Options, Pace
from genqueue_lab.servers import RedisServer

SERVER = os.environ.get("GENQUEUE_TEST_SERVER")

GEMINI_3 = "gemini-3-pro-preview"
FLASH = "gemini-2.5-flash"
LOOK = {"name": "look", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}}
THINKING = {"thinking_config": {"include_thoughts": True}}


class City(BaseModel):
    """What an answer is to be."""

    name: str
    population: int
    districts: list[str]


@pytest.fixture(scope="module")
def rich_emulator():
    """One emulator for all tests here."""
    with EmulatorProcess(Options(pace=Pace(ttft=0.02, tpot=0.002))) as running:
        yield running


@pytest.fixture(scope="module")
def chat(rich_emulator, tmp_path_factory):
    """One client for all tests here, whose jobs a worker runs."""
    with RedisServer(SERVER) as server, Client(data_url=server.url()) as client:
        worker = WorkerProcess(tmp_path_factory.mktemp("worker"), server.url(), rich_emulator).start()
        yield client
        worker.kill()


def last_body(emulator):
    """Return the latest request the emulator got."""
    return emulator.bodies()[-1]


async def looked_up(chat, job_id):
    """Return what the asyncio client reads a job's answer into."""
    async with AsyncClient(chat._connection.settings) as client:
        return (await client.job(job_id, response_schema=City).result(30)).parsed


def test_a_chat_goes_on_with_the_models_turns_verbatim(chat, rich_emulator):
    """Thoughts, a signed text and a signed function call reach the provider again as it had sent them."""
    contents = [{"role": "user", "parts": [{"text": "hello"}]}]
    first = chat.submit(contents, model=GEMINI_3, **THINKING).result(30)
    assert first.thoughts
    assert first.content["parts"][0] == {"text": first.thoughts, "thought": True}
    assert first.content["parts"][-1]["thoughtSignature"]
    assert "".join(part["text"] for part in first.content["parts"] if not part.get("thought")) == first.text

    contents += [first.content, {"role": "user", "parts": [{"text": "now call look"}]}]
    tools = [{"function_declarations": [LOOK]}]
    job = chat.submit(contents, model=GEMINI_3, tools=tools, **THINKING)
    second = job.result(30)
    assert last_body(rich_emulator)["contents"] == contents
    (call,) = second.function_calls
    assert call["name"] == "look"
    assert second.content["parts"][-1]["thoughtSignature"]
    assert [event.part for event in job.tail(timeout=30) if event.about == "part"] == [second.content["parts"][-1]]

    answer = types.Part.from_function_response(name="look", response={"seen_there": "snow"})
    contents += [second.content, types.Content(role="user", parts=[answer])]
    third = chat.submit(contents, model=GEMINI_3, tools=tools, **THINKING).result(30)
    assert third.text
    sent = last_body(rich_emulator)["contents"]
    assert sent[:-1] == [*contents[:3], second.content]
    assert sent[-1]["parts"] == [{"functionResponse": {"name": "look", "response": {"seen_there": "snow"}}}]


def test_a_cached_answer_is_the_same_answer(chat):
    """Replayed from the cache, events and turn are what they were, signature and all."""
    first = chat.submit("hello again", model=GEMINI_3, **THINKING).result(30)
    again = chat.submit("hello again", model=GEMINI_3, **THINKING)
    replayed = again.result(30)
    assert first.source == "live"
    assert (replayed.source, replayed.content, replayed.thoughts) == ("cache", first.content, first.thoughts)
    events = list(again.tail(timeout=30))
    assert text_of(events) == first.text
    assert [event.about for event in events if event.type == "part"] == ["text"]


def test_images_citations_and_sources_arrive(chat, rich_emulator):
    """Inline data is a part of the turn; what is said about the whole is in `candidate`; bytes go out as base64."""
    pixel = types.Part.from_bytes(data=b"\x89PNG\xff\xfb", mime_type="image/png")
    config = types.GenerateContentConfig(
        response_modalities=["TEXT", "IMAGE"], tools=[types.Tool(google_search=types.GoogleSearch())]
    )
    result = chat.submit(["cite https://example.com/a", pixel], model=FLASH, config=config).result(30)
    assert base64.b64decode(result.content["parts"][-1]["inlineData"]["data"]).startswith(b"\x89PNG")
    assert result.candidate["citationMetadata"]["citationSources"][0]["uri"] == "https://example.com/a"
    assert result.candidate["groundingMetadata"]["groundingChunks"]
    sent = last_body(rich_emulator)
    assert base64.b64decode(sent["contents"][0]["parts"][1]["inlineData"]["data"]) == b"\x89PNG\xff\xfb"
    assert sent["tools"] == [{"googleSearch": {}}]


def test_an_answer_comes_in_the_type_that_was_asked_for(chat):
    """A pydantic model is parsed, also by whoever comes later and names it; a schema gives decoded JSON."""
    job = chat.submit("Which city?", model=FLASH, response_schema=City)
    parsed = job.result(30).parsed
    assert isinstance(parsed, City)
    assert chat.job(job.id, response_schema=City).result(30).parsed == parsed
    assert chat.job(job.id).result(30).parsed is None
    assert asyncio.run(looked_up(chat, job.id)) == parsed
    plain = chat.submit("Which cities?", model=FLASH, response_schema=list[City]).result(30).parsed
    assert all(isinstance(city, City) for city in plain)
    free = chat.submit("How many?", model=FLASH, response_schema=dict[str, int]).result(30).parsed
    assert isinstance(free, dict)
    decoded = chat.submit("Which?", model=FLASH, response_schema={"type": "array", "items": {"type": "integer"}})
    assert all(isinstance(one, int) for one in decoded.result(30).parsed)
    cut = chat.submit("Which city?", model=FLASH, response_schema=City, max_output_tokens=2).result(30)
    assert (cut.finish_reason, cut.parsed) == ("MAX_TOKENS", None)


def test_openai_messages_reach_the_provider_as_contents(chat, rich_emulator):
    """The same conversation in OpenAI's words is the same question."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "And now?"},
    ]
    asked = chat.submit(messages=messages, model=FLASH)
    first = asked.result(30)
    contents = ["hello", {"role": "model", "parts": ["Hi."]}, "And now?"]
    same = chat.submit(contents, model=FLASH, system_instruction="Be brief.").result(30)
    assert (same.source, same.text) == ("cache", first.text)
    sent = last_body(rich_emulator)
    assert [turn["role"] for turn in sent["contents"]] == ["user", "model", "user"]
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


def test_refusals_keep_their_ratings(chat):
    """What was stopped for safety says why, on the result or on the error."""
    stopped = chat.submit("stop for safety", model=FLASH).result(30)
    assert stopped.finish_reason == "SAFETY"
    assert stopped.candidate["safetyRatings"][0]["blocked"]
    job = chat.submit("block this prompt", model=FLASH)
    with pytest.raises(JobFailed, match="PROHIBITED_CONTENT") as failed:
        job.result(30)
    assert failed.value.code == "prompt_blocked"
    assert failed.value.prompt_feedback["safetyRatings"][0]["blocked"]
    assert [event.part for event in job.tail(timeout=30) if event.about == "prompt"] == [failed.value.prompt_feedback]
