import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genqueue.request.document import build_request
from genqueue.request.messages import contents_of_messages
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.openai_messages import messages_of
from genqueue_worker.providers.openai_request import Dialect, encode_body
from genqueue_worker.providers.seam import ProviderRequest, decode_request

OPENAI = Dialect.of("https://api.openai.com/v1")
OTHER = Dialect.of("https://llm.example/v1")
HELLO = [{"role": "user", "parts": [{"text": "hello"}]}]
LOOK = {
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
}


def body_of(dialect=OPENAI, contents=HELLO, **config):
    """Return the body for a request in the worker's spelling."""
    return json.loads(encode_body(ProviderRequest("m", contents, None, config), dialect))


def said_of(config, dialect=OPENAI, **given):
    """Return the body for what a caller of the SDK gives, without what every body has."""
    request = build_request("hello", model="m", config=config, **given)
    body = json.loads(encode_body(decode_request(request.encode()), dialect))
    return {
        name: value for name, value in body.items() if name not in ("model", "messages", "stream", "stream_options")
    }


def refused(contents=HELLO, dialect=OPENAI, **config):
    """Return the message of a refusal."""
    with pytest.raises(ProviderError) as raised:
        body_of(dialect, contents, **config)
    assert (raised.value.code, raised.value.retryable) == ("unsupported", False)
    return raised.value.message


def test_a_plain_request():
    """It is streamed, and its usage is asked for."""
    request = ProviderRequest("m", HELLO, {"parts": [{"text": "Be brief."}]})
    assert json.loads(encode_body(request, OPENAI)) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 7,
                "presence_penalty": 1,
                "frequency_penalty": -1,
                "store": True,
            },
            {
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 7,
                "presence_penalty": 1,
                "frequency_penalty": -1,
                "store": True,
            },
        ),
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"response_logprobs": True, "logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"response_logprobs": True}, {"logprobs": True}),
        ({"service_tier": "standard"}, {"service_tier": "default"}),
        ({"response_modalities": ["text"]}, {}),
        ({"thinking_config": {"thinking_level": "low"}}, {"reasoning_effort": "low"}),
        ({"thinking_config": {"thinking_budget": 0}}, {"reasoning_effort": "none"}),
        ({"thinking_config": {"thinking_budget": 8192}}, {"reasoning_effort": "medium"}),
        ({"thinking_config": {"thinking_budget": 30_000}}, {"reasoning_effort": "high"}),
        ({"thinking_config": {"thinking_budget": -1}}, {}),
        ({"response_mime_type": "text/plain"}, {}),
        ({"response_mime_type": "application/json"}, {"response_format": {"type": "json_object"}}),
    ],
)
def test_fields_with_a_word_of_their_own(config, said):
    """Each is said in OpenAI's way, as the SDK's caller gave it."""
    assert said_of(config) == said


def test_the_limit_of_tokens_is_called_as_the_server_knows_it():
    """The older name by default, the newer one to OpenAI and Azure."""
    assert said_of({"max_output_tokens": 9}, OTHER) == {"max_tokens": 9}
    assert Dialect.of("https://mine.openai.azure.com/openai/v1").limit == "max_completion_tokens"


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'",
            {"limit": "max_completion_tokens"},
        ),
        ('{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}', {"counts": False}),
        ("max_tokens is too large: 9", {}),
        ("Unknown parameter: 'seed'", {}),
    ],
)
def test_a_field_the_server_does_not_know_is_said_otherwise(message, change):
    """Only two of them can be."""
    assert OTHER.after(ProviderError("x", message, 400)) == dataclasses.replace(OTHER, **change)
    assert OTHER.after(ProviderError("x", message, 500)) == OTHER


def test_a_closed_schema_is_strict():
    """Objects are closed, names are in the order asked for, and null is a type."""
    properties = {
        "name": {"type": "STRING"},
        "age": {"type": "INTEGER", "nullable": True, "format": "int32"},
        "kin": {"type": "ARRAY", "items": {"type": "STRING", "enum": ["a"], "nullable": True}},
    }
    schema = {"type": "OBJECT", "title": "A person", "properties": properties, "required": ["age", "kin", "name"]}
    (said,) = said_of({"response_schema": schema}).values()
    assert said["json_schema"]["name"] == "A_person"
    assert said["json_schema"]["strict"] is True
    assert list(said["json_schema"]["schema"]["properties"]) == ["name", "age", "kin"]
    assert said["json_schema"]["schema"] == {
        "type": "object",
        "title": "A person",
        "additionalProperties": False,
        "required": ["age", "kin", "name"],
        "properties": {
            "name": {"type": "string"},
            "age": {"type": ["integer", "null"]},
            "kin": {"type": "array", "items": {"type": ["string", "null"], "enum": ["a", None]}},
        },
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}]}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=b)"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]},
        {"type": "array", "items": {"type": "string"}},
    ],
)
def test_what_strict_decoding_cannot_carry_is_a_wish(schema):
    """It goes as it was written."""
    (said,) = said_of({"response_json_schema": schema}).values()
    assert said == {"type": "json_schema", "json_schema": {"name": "answer", "strict": False, "schema": schema}}


@pytest.mark.parametrize(
    ("calling", "choice", "offered"),
    [
        ({}, None, ["look", "walk", "run"]),
        ({"mode": "AUTO"}, "auto", ["look", "walk", "run"]),
        ({"mode": "NONE"}, "none", ["look", "walk", "run"]),
        ({"mode": "ANY"}, "required", ["look", "walk", "run"]),
        (
            {"mode": "ANY", "allowed_function_names": ["walk"]},
            {"type": "function", "function": {"name": "walk"}},
            ["look", "walk", "run"],
        ),
        ({"mode": "ANY", "allowed_function_names": ["walk", "run"]}, "required", ["walk", "run"]),
    ],
)
def test_tools(calling, choice, offered):
    """Functions are declared, and how they are to be called is said."""
    openai = {"type": "function", "function": {"name": "run", "parameters": {"type": "object", "properties": {}}}}
    tools = [{"function_declarations": [LOOK, {"name": "walk"}]}, openai]
    said = said_of({"tools": tools, "tool_config": {"function_calling_config": calling}})
    assert [tool["function"]["name"] for tool in said["tools"]] == offered
    assert said.get("tool_choice") == choice
    if offered[0] == "look":
        parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
        assert said["tools"][0]["function"] == {"name": "look", "description": "Looks.", "parameters": parameters}
        assert said["tools"][2] == openai


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"topK": 3}, "topK"),
        ({"safetySettings": [{}]}, "safetySettings"),
        ({"cachedContent": "c"}, "cachedContent"),
        ({"stopSequences": ["a"] * 5}, "stopSequences"),
        ({"responseModalities": ["IMAGE"]}, "responseModalities IMAGE"),
        ({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}, "responseMimeType text/x.enum"),
        ({"thinkingConfig": {"includeThoughts": True}}, "thinkingConfig.includeThoughts"),
        ({"tools": [{"googleSearch": {}}]}, "tools.googleSearch"),
        ({"tools": [{"functionDeclarations": [{"name": "f", "response": {}}]}]}, "tools.functionDeclarations.response"),
        ({"toolConfig": {"retrievalConfig": {}}}, "toolConfig.retrievalConfig"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}}, "functionCallingConfig.mode VALIDATED"),
        ({"routingConfig": {}}, "routingConfig"),
        ({"mediaResolution": "MEDIA_RESOLUTION_ULTRA_HIGH"}, "mediaResolution ULTRA_HIGH"),
    ],
)
def test_a_field_that_cannot_be_said_is_named(config, named):
    """Nothing is left out silently."""
    assert f"takes no {named}" in refused(**config).replace("toolConfig.function", "function")


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"inlineData": {"mimeType": "video/mp4", "data": "AA=="}}, "inlineData of type video/mp4"),
        ({"inlineData": {"mimeType": "audio/flac", "data": "AA=="}}, "inlineData of type audio/flac"),
        ({"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}, "fileData gs://b/a.png"),
        ({"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.b/c.pdf"}}, "fileData https://a.b/c.pdf"),
        (
            {
                "fileData": {
                    "mimeType": "image/png",
                    "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a",
                }
            },
            "fileData https://generativelanguage",
        ),
        ({"text": "a", "videoMetadata": {"fps": 1}}, "videoMetadata"),
        ({"executableCode": {"code": "1"}}, "executableCode"),
        ({"functionResponse": {"id": "c", "name": "f", "response": {}, "parts": [{}]}}, "functionResponse.parts"),
    ],
)
def test_a_part_that_cannot_be_said_is_named_with_its_place(part, named):
    """Whoever wrote it finds it."""
    message = refused([*HELLO, {"role": "user", "parts": [{"text": "a"}, part]}])
    assert f"takes no contents[1].parts[1].{named}" in message


def test_what_a_model_says_is_text():
    """An image of its own cannot go back."""
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    assert "contents[0].parts[0].inlineData" in refused([{"role": "model", "parts": [image]}])


def test_images_are_looked_at_as_closely_as_asked_for():
    """For all of them, or for one."""
    data = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    near = {**data, "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}}
    body = body_of(contents=[{"parts": [data, near]}], mediaResolution="MEDIA_RESOLUTION_LOW")
    assert [part["image_url"]["detail"] for part in body["messages"][0]["content"]] == ["low", "high"]


def test_calls_without_ids_get_some():
    """Answers find them by the function's name, in order, and stand right behind them."""
    call, answer = (
        {"functionCall": {"name": "f", "args": {}}},
        {"functionResponse": {"name": "f", "response": {"a": 1}}},
    )
    contents = [{"role": "model", "parts": [call, call]}, {"role": "user", "parts": [{"text": "so"}, answer, answer]}]
    messages = messages_of(ProviderRequest("m", contents))
    assert [one["id"] for one in messages[0]["tool_calls"]] == ["call_1", "call_2"]
    assert [(one["role"], one.get("tool_call_id")) for one in messages[1:]] == [
        ("tool", "call_1"),
        ("tool", "call_2"),
        ("user", None),
    ]
    with pytest.raises(ProviderError, match=r"contents\[0\].parts\[1\].functionResponse answers no call"):
        messages_of(ProviderRequest("m", contents[1:]))


def test_what_belongs_to_gemini_alone_goes_back_to_gemini_alone():
    """Thoughts go to nobody, signatures to Google's own interface."""
    call = {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": "AA=="}
    contents = [{"role": "model", "parts": [{"text": "hm", "thought": True}, call]}]
    (plain,) = messages_of(ProviderRequest("m", contents))
    assert plain == {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    google = Dialect.of("https://generativelanguage.googleapis.com/v1beta/openai")
    (signed,) = json.loads(encode_body(ProviderRequest("m", contents), google))["messages"]
    assert signed["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "AA=="}}


TEXTS = st.text(st.sampled_from('ab\u2028😀"{}[]1:'), min_size=1, max_size=6)
USER_PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
    st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
    st.just({"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}),
    st.just({"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}),
    st.just({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}}),
)
ARGUMENTS = st.dictionaries(TEXTS, st.none() | st.integers(-9, 9) | TEXTS, max_size=2)
ANSWERS = TEXTS | st.builds(
    json.dumps, ARGUMENTS | st.builds(lambda text: {"result": text}, TEXTS | st.just('{"a": 1}'))
)
TURNS = st.one_of(
    st.tuples(st.just("user"), TEXTS | st.lists(USER_PARTS, min_size=1, max_size=3)),
    st.tuples(st.just("assistant"), TEXTS),
    st.tuples(st.just("calls"), st.lists(st.tuples(st.sampled_from("fg"), ARGUMENTS, ANSWERS), min_size=1, max_size=3)),
)


@st.composite
def conversations(draw):
    """Draw OpenAI's messages, calls with their answers behind them."""
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for number, (role, said) in enumerate(draw(st.lists(TURNS, min_size=1, max_size=4))):
        if role != "calls":
            messages.append({"role": role, "content": said})
            continue
        ids = [f"c{number}_{index}" for index in range(len(said))]
        calls = [
            {"id": made, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for made, (name, arguments, _) in zip(ids, said, strict=True)
        ]
        messages.append(
            {"role": "assistant", "content": draw(TEXTS) if draw(st.booleans()) else None, "tool_calls": calls}
        )
        messages += [
            {"role": "tool", "tool_call_id": made, "content": answer}
            for made, (_, _, answer) in zip(ids, said, strict=True)
        ]
    return messages


@settings(max_examples=60, deadline=None)
@given(messages=conversations())
def test_messages_come_through(messages):
    """What the SDK makes of OpenAI's messages comes out as messages that mean the same."""
    contents, instruction = contents_of_messages(messages)
    again = messages_of(ProviderRequest("m", contents, instruction))
    assert [one["role"] for one in again] == [one["role"] for one in messages]
    assert contents_of_messages(again) == (contents, instruction)
