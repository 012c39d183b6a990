"""The openai package reads the same bytes; ours must find the same in them, wherever they are cut."""

import itertools
import json
from itertools import pairwise

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_stream import StreamReader
from genqueue_worker.providers.openai_wire import finish_of

TEXTS = st.text(st.sampled_from('ab \n\r\u2028\u2029\u0085é😀"\\{}:'), min_size=1, max_size=6)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "snake_key"]), st.none() | st.booleans() | st.floats(-2, 2) | TEXTS, max_size=2
)
SAYINGS = st.lists(
    st.tuples(st.sampled_from(["content", "content", "reasoning_content", "refusal"]), TEXTS), max_size=4
)
CALLS = st.lists(st.tuples(st.sampled_from(["look", "get_weather"]), ARGUMENTS), max_size=3)
USAGES = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(10, 19)},
    optional={"prompt_tokens_details": st.just({"cached_tokens": 3}), "x_new": st.just(1)},
)
CHOICES = st.tuples(SAYINGS, CALLS, st.sampled_from(["stop", "length", "content_filter", "tool_calls"]))
ERRORS = st.fixed_dictionaries(
    {"message": st.just("Too much"), "type": st.just("requests"), "code": st.just("rate_limit_exceeded")},
    optional={"param": st.none()},
)


def cut(text, points):
    """Return a text in pieces, cut at these points modulo its length."""
    edges = sorted({0, len(text), *(point % (len(text) + 1) for point in points)})
    return [text[start:end] for start, end in pairwise(edges)]


def deltas_of(draw, sayings, calls):
    """Return the deltas of a choice: what it says, and its calls in pieces, of which those of several may alternate."""
    said = [{name: text} for name, text in sayings]
    pieces = []
    for index, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments, ensure_ascii=draw(st.booleans()))
        first = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        further = cut(text, draw(st.lists(st.integers(0, 60), max_size=4)))
        pieces.append([first, *({"index": index, "function": {"arguments": piece}} for piece in further)])
    if draw(st.booleans()):
        in_turn = [one for row in itertools.zip_longest(*pieces) for one in row if one is not None]
    else:
        in_turn = [one for row in pieces for one in row]
    return [{"role": "assistant", "content": ""}, *said, *({"tool_calls": [one]} for one in in_turn)]


@st.composite
def messages(draw):
    """Draw the messages of a whole answer, and whether an error cuts it."""
    found = []
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", "new": {"a": [1]}}
    for index, (sayings, calls, reason) in enumerate(draw(st.lists(CHOICES, min_size=1, max_size=2))):
        choices = ({"index": index, "delta": one, "later": 0} for one in deltas_of(draw, sayings, calls))
        found += [{**head, "choices": [{**choice, "finish_reason": None}]} for choice in choices]
        found.append({**head, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
    if draw(st.booleans()):
        usage = draw(USAGES)
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        found.append({**head, "choices": [], "usage": {**usage, "total_tokens": total}})
    if draw(st.integers(0, 4)) == 0:
        return [*found[: draw(st.integers(0, len(found)))], {"error": draw(ERRORS)}]
    return found


@st.composite
def bodies(draw):
    """Draw a body in chunks: comments, other fields, several data lines, all line ends, cut anywhere."""
    lines = [": hello"] if draw(st.booleans()) else []
    for message in draw(messages()):
        text = json.dumps(message, ensure_ascii=False, indent=draw(st.sampled_from([None, None, 0])))
        lines += [": ping", ""] if draw(st.booleans()) else []
        lines += ["event: message"] if draw(st.booleans()) else []
        space = draw(st.sampled_from(["", " "]))
        lines += [f"data:{space}{line}" for line in text.split("\n")] + [""]
    lines += ["data: [DONE]", ""]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    body = "".join(line + end for line in lines).encode()
    points = draw(st.lists(st.integers(0, len(body)), max_size=8))
    return cut(body, points)


class Sdk:
    """The openai package reading bodies we give it."""

    def __init__(self):
        self._chunks = []
        self._http = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        self._client = openai.OpenAI(api_key="k", base_url="https://o.test/v1", http_client=self._http, max_retries=0)

    def _answer(self, request):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=iter(self._chunks))

    def read(self, chunks):
        """Return the messages the package finds in a body that arrives in these chunks, and the error if there is."""
        self._chunks = chunks
        found = []
        try:
            asked = [{"role": "user", "content": "hi"}]
            for message in self._client.chat.completions.create(model="m", messages=asked, stream=True):
                found.append(message)  # noqa: PERF402 - those before an error count
        except openai.APIError as error:
            return found, error
        return found, None

    def close(self):
        """Close the package's client."""
        self._client.close()


@pytest.fixture(scope="module")
def sdk():
    """One client of the package's for all bodies."""
    client = Sdk()
    yield client
    client.close()


def calls_by_sdk(message):
    """Return the calls of one choice."""
    return [
        {"id": call.id, "name": call.function.name, "args": json.loads(call.function.arguments)}
        for call in message.tool_calls or ()
    ]


def found_by_sdk(found):
    """Sum up what the package found, choice by choice; of the calls those whose choice has ended."""
    state = ChatCompletionStreamState()
    choices = {}
    usage = model = None
    for message in found:
        state.handle_chunk(message)
        model = message.model
        for choice in message.choices:
            said = choices.setdefault(choice.index, {"text": "", "thoughts": "", "calls": [], "finish": None})
            said["text"] += (choice.delta.content or "") + (choice.delta.refusal or "")
            said["thoughts"] += (choice.delta.model_extra or {}).get("reasoning_content") or ""
            said["finish"] = choice.finish_reason or said["finish"]
        if message.usage is not None:
            details = message.usage.prompt_tokens_details
            usage = {
                "promptTokenCount": message.usage.prompt_tokens,
                "candidatesTokenCount": message.usage.completion_tokens,
                "totalTokenCount": message.usage.total_tokens,
                "cachedContentTokenCount": details.cached_tokens if details is not None else 0,
            }
    snapshot = state.current_completion_snapshot if found else None
    for choice in snapshot.choices if snapshot is not None else ():
        said = choices[choice.index]
        if said["finish"] is not None:
            said["calls"] = calls_by_sdk(choice.message)
            refused = choice.message.refusal and said["finish"] in ("stop", "tool_calls")
            said["finish"] = "SAFETY" if refused else finish_of(said["finish"])
    return {
        "choices": {index: said for index, said in choices.items() if any(said.values())},
        "usage": usage,
        "model": model,
    }


def found_by_us(chunks):
    """Sum up what we found, choice by choice, and the error if there was one."""
    reader = StreamReader()
    said, error = [], None
    try:
        for raw in chunks:
            said.extend(reader.feed(raw))
        said.extend(reader.close())
    except ProviderError as raised:
        error = raised
    choices = {}
    usage = model = None
    for chunk in said:
        candidates = [{"index": 0, "finishReason": chunk.finish_reason, "content": {"parts": []}}]
        for piece in chunk.entries:
            match piece.kind, piece.about:
                case "part", "candidate":
                    remark = json.loads(piece.json)
                    candidates += [remark] if remark.get("index") else []
                case "part", _:
                    candidates[0]["content"]["parts"].append(json.loads(piece.json))
                case kind, _:
                    candidates[0]["content"]["parts"].append({"text": piece.text, "thought": kind == "thought"})
        for candidate in candidates:
            add(choices, candidate)
        usage, model = chunk.usage or usage, chunk.model_version or model
    usage = usage and {"cachedContentTokenCount": 0, **usage}
    return {
        "choices": {index: one for index, one in choices.items() if any(one.values())},
        "usage": usage,
        "model": model,
    }, error


def add(choices, candidate):
    """Add what a candidate says."""
    said = choices.setdefault(candidate["index"], {"text": "", "thoughts": "", "calls": [], "finish": None})
    said["finish"] = candidate.get("finishReason") or said["finish"]
    for part in candidate.get("content", {}).get("parts", ()):
        if "functionCall" in part:
            said["calls"].append(part["functionCall"])
        else:
            said["thoughts" if part.get("thought") else "text"] += part["text"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=bodies())
def test_the_openai_package_finds_the_same(sdk, chunks):
    """Texts, thoughts, refusals, calls, ends, usage, model and errors are the same, whatever the bytes' way here."""
    found, refusal = sdk.read(chunks)
    ours, error = found_by_us(chunks)
    assert ours == found_by_sdk(found)
    assert (error is None) == (refusal is None)
    if error is not None:
        assert (error.code, error.message) == (refusal.code, refusal.message)
