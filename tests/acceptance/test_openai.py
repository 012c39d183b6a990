"""A real worker that has OpenAI's key beside Gemini's: the same client, another model's name."""

import os

import pytest
from acceptance_workers import WorkerProcess
from pydantic import BaseModel

from genqueue import Client, JobFailed
from genqueue_lab.emulator import EmulatorProcess, Options, Pace
from genqueue_lab.servers import RedisServer

SERVER = os.environ.get("GENQUEUE_TEST_SERVER")

GPT = "gpt-4.1-mini"
LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}},
}


class City(BaseModel):
    """What an answer is to be."""

    name: str
    population: int
    districts: list[str]


@pytest.fixture(scope="module")
def both():
    """One emulator of both APIs for all tests here."""
    with EmulatorProcess(Options(pace=Pace(ttft=0.02, tpot=0.002))) as running:
        yield running


@pytest.fixture(scope="module")
def chat(both, tmp_path_factory):
    """One client for all tests here, whose jobs a worker with both keys runs."""
    own = {
        "GENQUEUE_OPENAI_BASE_URL": f"{both.url}/v1",
        "GENQUEUE_OPENAI_API_KEY": "key",
        "GENQUEUE_OPENAI_CA_FILE": both.ca_file,
    }
    with RedisServer(SERVER) as server, Client(data_url=server.url()) as client:
        worker = WorkerProcess(tmp_path_factory.mktemp("worker"), server.url(), both, **own).start()
        yield client
        worker.kill()


def test_the_models_name_chooses_the_provider(chat):
    """The same messages are answered by GPT and by Gemini, token by token, with usage and the model that answered."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    for model in (GPT, "gemini-2.5-flash"):
        job = chat.submit(messages=messages, model=model, temperature=0.5)
        texts = [event.text for event in job.tail(timeout=30) if event.type == "delta"]
        result = job.result(30)
        assert len(texts) > 1
        assert "".join(texts) == result.text
        assert (result.model, result.finish_reason, result.usage.output_tokens) == (model, "STOP", 40)


def test_a_tool_is_called_and_its_answer_goes_back(chat, both):
    """The model's turn goes back as it came, and the API finds the call that is answered."""
    contents = [{"role": "user", "parts": [{"text": "call look"}]}]
    first = chat.submit(contents, model=GPT, tools=[LOOK]).result(30)
    (call,) = first.function_calls
    assert call["name"] == "look"
    answer = {"name": "look", "id": call["id"], "response": {"seen": "snow"}}
    contents += [first.content, {"role": "user", "parts": [{"functionResponse": answer}]}]
    assert chat.submit(contents, model=GPT, tools=[LOOK]).result(30).text
    asked = both.bodies()[-1]["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "tool"]
    assert asked[1]["tool_calls"][0]["id"] == asked[2]["tool_call_id"] == call["id"]


def test_an_answer_is_read_into_a_model(chat, both):
    """The schema is said as a strict one."""
    result = chat.submit("A city, please.", model=GPT, response_schema=City).result(30)
    assert isinstance(result.parsed, City)
    assert both.bodies()[-1]["response_format"]["json_schema"]["strict"] is True


def test_what_cannot_be_said_fails_and_is_not_sent(chat, both):
    """The job's error names the field."""
    calls = both.stats(details=False)["totals"]["calls"]
    with pytest.raises(JobFailed, match="takes no topK") as raised:
        chat.submit("hello", model=GPT, top_k=3).result(30)
    assert raised.value.code == "unsupported"
    assert both.stats(details=False)["totals"]["calls"] == calls
