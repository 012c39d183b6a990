import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_stream import StreamReader


def event(**message):
    """Return an event with a message."""
    return f"data: {json.dumps(message)}\n\n".encode()


def choice(finish_reason=None, index=0, **delta):
    """Return an event with one choice."""
    return event(choices=[{"index": index, "delta": delta, "finish_reason": finish_reason}], model="m")


def called(finish_reason=None, **piece):
    """Return an event with a piece of a call."""
    return choice(finish_reason, tool_calls=[piece])


def read(*events):
    """Return all chunks of a body."""
    reader = StreamReader()
    return [*reader.feed(b"".join(events)), *reader.close()]


def summed(chunks):
    """Return the pieces, the last finish reason and the last usage."""
    pieces = [piece for chunk in chunks for piece in chunk.entries]
    finishes = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    return pieces, finishes[-1] if finishes else None, usages[-1] if usages else None


def parts(chunks, about="part"):
    """Return the JSON of all parts about one thing."""
    return [json.loads(p.json) for chunk in chunks for p in chunk.entries if p.kind == "part" and p.about == about]


def error_of(*events):
    """Return the error a body ends with."""
    with pytest.raises(ProviderError) as raised:
        read(*events)
    return raised.value


DONE = b"data: [DONE]\n\n"


def test_a_finish_reason_ends_the_answer_without_done():
    """Some servers close the body behind the last choice."""
    pieces, finish_reason, _ = summed(read(choice(content="hi"), choice("stop")))
    assert [(piece.kind, piece.text) for piece in pieces] == [("delta", "hi")]
    assert finish_reason == "STOP"


def test_done_ends_the_answer_without_a_finish_reason():
    """What was said counts, calls too, and nobody knows why it ended; nothing behind it is read."""
    chunks = read(called(index=0, id="c", function={"name": "f", "arguments": "{}"}), DONE, b"data: nonsense\n\n")
    assert parts(chunks) == [{"functionCall": {"id": "c", "name": "f", "args": {}}}]
    assert summed(chunks)[1] == "OTHER"


@pytest.mark.parametrize("body", [b"", choice(content="hi"), choice(content="hi") + choice("stop")[:30]])
def test_a_body_with_neither_is_truncated(body):
    """It may be tried again."""
    error = error_of(body)
    assert (error.code, error.retryable) == ("truncated_stream", True)


def test_a_message_that_is_none_is_malformed():
    """It may be tried again too; what came before it still comes."""
    reader = StreamReader()
    chunks = reader.feed(choice(content="hi") + b'data: {"choices": 7}\n\n')
    assert next(chunks).entries[0].text == "hi"
    with pytest.raises(ProviderError) as raised:
        next(chunks)
    assert (raised.value.code, raised.value.retryable) == ("malformed_chunk", True)


@pytest.mark.parametrize(
    ("body", "code", "status", "retryable"),
    [
        (event(error={"message": "Slow down", "code": "rate_limit_exceeded"}), "rate_limit_exceeded", 429, True),
        (event(error={"message": "Oops", "type": "server_error", "code": None}), "server_error", 500, True),
        (event(error={"message": "No", "type": "BadRequestError", "code": 400}), "BadRequestError", 400, False),
        (event(error="it broke"), "provider_error", None, True),
        (event(object="error", message="No", type="invalid_request_error"), "invalid_request_error", 400, False),
        (b'{"error": {"message": "No", "code": "model_not_found"}}\n', "model_not_found", 404, False),
        (b'[{"error": {"message": "No", "code": 404}}]\n', "HTTP_404", 404, False),
        (b'error: {"message": "No", "code": 500, "type": "server_error"}\n\n', "server_error", 500, True),
        (b'event: error\ndata: {"message": "No", "code": 503}\n\n', "HTTP_503", 503, True),
        (b'event: error\ndata: {"error": {"message": "No", "code": 503}}\n\n', "HTTP_503", 503, True),
    ],
)
def test_an_error_in_the_body_ends_it(body, code, status, retryable):
    """However the server spells it, and wherever it comes."""
    error = error_of(choice(content="hi"), body)
    assert (error.code, error.status, error.retryable) == (code, status, retryable)


def test_an_error_that_is_null_is_none():
    """Some servers have the field in every message."""
    read(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], error=None))


@pytest.mark.parametrize(
    "events",
    [
        [called(id="a", function={"name": "f", "arguments": "{}"}), called(id="b", function={"name": "g"})],
        [called(index=0, id="a", function={"name": "f"}), called(index=0, id="b", function={"name": "g"})],
        [
            choice("tool_calls"),
            called(index=0, id="a", function={"name": "f", "arguments": {}}),
            called(index=1, id="b", function={"name": "g"}),
        ],
        [
            called(index=0, id="a", function={"name": "f", "arguments": "{"}),
            called(index=0, id="a", function={"name": "f", "arguments": "}"}),
            called(index=1, id="b", function={"name": "g"}),
            called(index=1, id="b", function={"name": "g"}),
        ],
        [
            called(index=0, id="a", function={"name": "f", "arguments": ""}),
            called(index=1, id="b", function={"name": "g", "arguments": "{"}),
            called(index=0, id="", function={"arguments": "{}"}),
            called(index=1, id="b", function={"arguments": "}"}),
        ],
    ],
)
def test_calls_are_told_apart(events):
    """By index; without one, or with one index for all, by their ids."""
    found = parts(read(*events, choice("tool_calls")))
    calls = [{"id": "a", "name": "f", "args": {}}, {"id": "b", "name": "g", "args": {}}]
    assert found == [{"functionCall": call} for call in calls]


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_calls_without_ids_are_told_apart_by_their_names(index):
    """Without an index a name begins a call; with the same one, another name behind arguments."""
    events = [called(**index, function={"name": name, "arguments": '{"a":1}'}) for name in "fg"]
    calls = [{"functionCall": {"name": name, "args": {"a": 1}}} for name in "fg"]
    assert parts(read(*events, choice("tool_calls"))) == calls


def test_two_calls_of_one_function_without_index_and_id():
    """Whole calls come one by one."""
    events = [called(function={"name": "f", "arguments": f'{{"a":{n}}}'}) for n in (1, 2)]
    assert [part["functionCall"]["args"] for part in parts(read(*events, choice("stop")))] == [{"a": 1}, {"a": 2}]


def test_what_is_no_stream_is_shown():
    """A page of a front end, where the base URL leads elsewhere."""
    error = error_of(b"<!doctype html>\n<title>Chat</title>\n")
    assert (error.code, error.retryable) == ("malformed_chunk", True)
    assert error.message == "The answer is no stream of messages, but: <!doctype html>\n<title>Chat</title>"


def test_logprobs_of_another_kind_are_left_out():
    """An answer is not lost over them."""
    assert summed(read(event(choices=[{"delta": {"content": "hi"}, "logprobs": []}]), choice("stop")))[1] == "STOP"


def test_the_call_of_before_there_were_several():
    """`function_call` has no id."""
    chunks = read(
        choice(function_call={"name": "f", "arguments": '{"a":'}),
        choice("function_call", function_call={"arguments": "1}"}),
    )
    assert parts(chunks) == [{"functionCall": {"name": "f", "args": {"a": 1}}}]


@pytest.mark.parametrize(
    ("arguments", "reason", "finish_reason"),
    [
        ("[1]", "tool_calls", "MALFORMED_FUNCTION_CALL"),
        ('{"a"', "stop", "MALFORMED_FUNCTION_CALL"),
        ('{"a"', "length", "MAX_TOKENS"),
    ],
)
def test_a_call_whose_arguments_are_no_object_is_left_out(arguments, reason, finish_reason):
    """The end says so: the call is malformed, or was cut as a text is."""
    chunks = read(called(index=0, id="c", function={"name": "f", "arguments": arguments}), choice(reason))
    assert parts(chunks) == []
    assert summed(chunks)[1] == finish_reason
    if finish_reason != "MAX_TOKENS":
        assert parts(chunks, "candidate") == [{"finishMessage": f"Malformed function call: f({arguments})"}]


def test_a_refusal_is_told_as_one():
    """Its words are the text, and its end is for safety."""
    chunks = read(choice(refusal="I "), choice(refusal="can't"), choice("stop"))
    pieces, finish_reason, _ = summed(chunks)
    assert "".join(piece.text for piece in pieces) == "I can't"
    assert finish_reason == "SAFETY"
    assert parts(chunks, "candidate") == [{"finishMessage": "The model refused to answer"}]


def test_thoughts_come_under_either_name_once():
    """Of two names for the same words one counts."""
    chunks = read(choice(reasoning_content="a", reasoning="a"), choice(reasoning="b", content="c"), choice("stop"))
    assert [(piece.kind, piece.text) for piece in summed(chunks)[0]] == [
        ("thought", "a"),
        ("thought", "b"),
        ("delta", "c"),
    ]


def test_thoughts_may_be_parts_of_the_content():
    """As Mistral's are."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}
    chunks = read(choice(content=[thinking, {"type": "text", "text": "b"}]), choice("stop"))
    assert [(piece.kind, piece.text) for piece in summed(chunks)[0]] == [("thought", "a"), ("delta", "b")]


def test_a_whole_answer_instead_of_a_stream_is_read():
    """Some servers know no streams."""
    calls = [{"id": one, "function": {"name": one, "arguments": "{}"}} for one in "fg"]
    whole = {"choices": [{"message": {"content": "hi", "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    chunks = read(json.dumps(whole, indent=1).encode())
    assert summed(chunks)[0][0].text == "hi"
    assert [part["functionCall"]["name"] for part in parts(chunks)] == ["f", "g"]


@pytest.mark.parametrize(
    ("usage", "answer"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}, 6),
        ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 14}, 6),
        ({"prompt_tokens": 5, "completion_tokens": 9}, 6),
    ],
)
def test_usage_has_the_thoughts_apart(usage, answer):
    """As Gemini counts, whether the server counts them into the completion or not."""
    details = {"completion_tokens_details": {"reasoning_tokens": 3}, "prompt_tokens_details": {"cached_tokens": 4}}
    chunks = read(choice("stop"), event(choices=[], usage={**usage, **details}), DONE)
    assert summed(chunks)[2] == {
        "promptTokenCount": 5,
        "candidatesTokenCount": answer,
        "totalTokenCount": 14,
        "cachedContentTokenCount": 4,
        "thoughtsTokenCount": 3,
    }


def test_logprobs_are_told_as_geminis():
    """The chosen token, and those that could have been."""
    told = {"token": "hi", "logprob": -0.5, "bytes": [104, 105], "top_logprobs": [{"token": "ho", "logprob": -1.0}]}
    said = {"index": 0, "delta": {"content": "hi"}, "logprobs": {"content": [told], "refusal": None}}
    assert parts(read(event(choices=[said]), choice("stop")), "candidate") == [
        {
            "logprobsResult": {
                "chosenCandidates": [{"token": "hi", "logProbability": -0.5}],
                "topCandidates": [{"candidates": [{"token": "ho", "logProbability": -1.0}]}],
            }
        }
    ]


def test_a_further_choice_is_a_candidate_of_its_own():
    """Its text and its calls are no part of the answer."""
    chunks = read(
        choice(index=1, content="other"),
        choice(index=1, tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]),
        choice("tool_calls", index=1),
        choice("stop", content="mine"),
    )
    call = {"functionCall": {"id": "c", "name": "f", "args": {}}}
    assert parts(chunks, "candidate") == [
        {"content": {"role": "model", "parts": [{"text": "other"}]}, "index": 1},
        {"finishReason": "STOP", "content": {"role": "model", "parts": [call]}, "index": 1},
    ]
    assert [piece.text for piece in summed(chunks)[0] if piece.kind == "delta"] == ["mine"]


NAMES = ["choices", "delta", "message", "content", "tool_calls", "function", "arguments", "index", "id", "usage"]
MORE = ["error", "object", "code", "finish_reason", "logprobs", "prompt_tokens", "refusal", "name", "model", "thinking"]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False) | st.sampled_from(["", "{}", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES + MORE), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(messages=st.lists(st.dictionaries(st.sampled_from(NAMES + MORE), ODD, max_size=4) | ODD, max_size=3))
def test_odd_messages_are_read_or_refused(messages):
    """Whatever a server sends, it is a chunk or a ProviderError."""
    with contextlib.suppress(ProviderError):
        read(*(f"data: {json.dumps(message)}\n\n".encode() for message in messages))
