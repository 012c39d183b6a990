"""What a request may be, and what a caller is told when it may not."""

import json
from collections import deque

import pytest

from genqueue.errors import InvalidRequest
from genqueue.options import MAX_DEADLINE, build_options
from genqueue.order import make_order
from genqueue.request.contents import contents_of
from genqueue.request.document import MAX_REQUEST_BYTES, build_request

MODEL = "gemini-2.5-flash"
HELLO = {"role": "user", "parts": [{"text": "Hello"}]}


class Hostile:
    """An object that answers nothing, like an array asked for its truth."""

    def __bool__(self):
        raise TypeError("ambiguous")

    def __eq__(self, other):
        raise TypeError("elementwise")

    __hash__ = None

    def __repr__(self):
        raise RuntimeError("no repr")


def nested(depth):
    """Return an object in an object in an object."""
    value = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


def document(contents="Hello", **options):
    """Return the decoded document of a request."""
    return json.loads(make_order(contents, options.pop("model", MODEL), options).document)


@pytest.mark.parametrize(
    ("contents", "turns"),
    [
        ("Hello", [HELLO]),
        (["Hello"], [HELLO]),
        (("Hello",), [HELLO]),
        ({"text": "Hello"}, [HELLO]),
        ({"parts": ["Hello"]}, [HELLO]),
        ({"parts": {"text": "Hello"}}, [HELLO]),
        ({"role": None, "parts": "Hello"}, [HELLO]),
        (["Hello", {"text": "you"}], [{"role": "user", "parts": [{"text": "Hello"}, {"text": "you"}]}]),
        (
            ["Hello", {"role": "model", "parts": ["Yes?"]}, "Bye"],
            [HELLO, {"role": "model", "parts": [{"text": "Yes?"}]}, {"role": "user", "parts": [{"text": "Bye"}]}],
        ),
        (
            [{"file_data": {"file_uri": "gs://x", "mime_type": "a/b"}}],
            [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://x", "mimeType": "a/b"}}]}],
        ),
        (
            [{"function_call": {"name": "f", "args": {"mime_type": 1}}}],
            [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"mime_type": 1}}}]}],
        ),
        (
            ["Look", {"function_call": {"name": "f"}}, {"function_response": {"name": "f"}}, "Well?"],
            [
                {"role": "user", "parts": [{"text": "Look"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f"}}, {"text": "Well?"}]},
            ],
        ),
        ([["Hello"], "Bye"], [HELLO, {"role": "user", "parts": [{"text": "Bye"}]}]),
        (
            {"file_uri": "gs://x", "mime_type": "a/b"},
            [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://x", "mimeType": "a/b"}}]}],
        ),
        (
            [{"role": "model", "parts": [{"newKind": {"own_name": None}}, {"newText": "x"}]}, [{"newKind": {}}]],
            [
                {"role": "model", "parts": [{"newKind": {"own_name": None}}, {"newText": "x"}]},
                {"role": "user", "parts": [{"newKind": {}}]},
            ],
        ),
    ],
)
def test_contents_take_every_usual_form(contents, turns):
    """Texts, parts, contents and lists of them become Gemini's own turns; a tool's arguments are left alone."""
    assert contents_of(contents) == turns
    assert document(contents)["contents"] == turns


@pytest.mark.parametrize(
    ("contents", "field"),
    [
        (None, "contents"),
        ("", "contents"),
        ([], "contents"),
        ({}, "contents"),
        (b"Hello", "contents"),
        (bytearray(b"Hello"), "contents"),
        (5, "contents"),
        ({"Hello"}, "contents"),
        (Hostile(), "contents"),
        (nested(10_000), "contents"),
        ([[]], "contents[0]"),
        ([["Hello", 5]], "contents[0][1]"),
        ([{"txt": "Hello"}], "contents[0].txt"),
        ([{"parts": [{"type": "text", "text": "Hello"}]}], "contents[0].parts[0].type"),
        ([{"name": "f", "args": {}}], "contents[0].name"),
        (["Hello", b"Hello"], "contents[1]"),
        (["Hello", ""], "contents[1]"),
        ([{"role": "robot", "parts": ["Hello"]}], "contents[0].role"),
        ([{"role": Hostile(), "parts": ["Hello"]}], "contents[0].role"),
        ([{"role": "user", "parts": []}], "contents[0].parts"),
        ([{"role": "user", "parts": Hostile()}], "contents[0].parts"),
        ([{"role": "user", "parts": b"Hello"}], "contents[0].parts"),
        ([{"role": "user", "parts": ["Hello", 7]}], "contents[0].parts[1]"),
        ([{"role": "user", "text": "Hello", "parts": ["Hello"]}], "contents[0].text"),
        ([{"text": 5}], "contents[0].text"),
        ([{"inline_data": "x"}], "contents[0].inline"),
        ([{"inline_data": {"mime_type": "a/b", "data": "?"}}], "contents[0].inline_data.data"),
        ([{"inline_data": {"mime_type": "a/b", "data": ["AA=="]}}], "contents[0].inline_data.data"),
        ([{"inline_data": {"mime_type": "a/b", "mimeType": "a/b"}}], "contents[0].inline_data.mimeType"),
        ([{"text": "x", "thought_signature": "?"}], "contents[0].thought_signature"),
        ([{"text": b"x"}], "contents[0].text"),
        ([{"text": ""}], "contents[0]"),
        ([{"thought": False}], "contents[0]"),
        ([{"functionCall": {"name": "f", "args": {"a": {1, 2}}}}], "contents[0].functionCall.args.a"),
        ([{"role": "assistant", "content": "Hello"}], "contents[0]"),
        ([{1: "x"}], "contents[0]"),
        (["\ud83d"], "contents[0]"),
        ([{"text": "x", "thought": float("nan")}], "contents[0].thought"),
        ([{"functionCall": nested(10_000)}], "contents[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else "contents",
)
def test_wrong_contents_are_refused_by_path(contents, field):
    """Whatever is wrong, the caller gets an InvalidRequest with the field's path and nothing else."""
    with pytest.raises(InvalidRequest) as raised:
        make_order(contents, MODEL, {})
    assert raised.value.field.startswith(field)
    assert str(raised.value).startswith(raised.value.field)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"temperature": 9}, "config.temperature"),
        ({"temperature": True}, "config.temperature"),
        ({"temperature": "0.5"}, "config.temperature"),
        ({"response_logprobs": 1}, "config.response_logprobs"),
        ({"response_modalities": "TEXT"}, "config.response_modalities"),
        ({"labels": {"a": 1}}, "config.labels.a"),
        ({"service_tier": "fast"}, "config.service_tier"),
        ({"topP": 2}, "config.top_p"),
        ({"config": {"top_p": 0.5, "topP": 0.5}}, "config.topP"),
        ({"safety_settings": {"category": "x"}}, "config.safety_settings"),
        ({"thinking_config": {"thinking_budget": 1, "thinkingBudget": 1}}, "config.thinking_config.thinkingBudget"),
        ({"tools": [print]}, "config.tools[0]"),
        ({"tools": [InvalidRequest]}, "config.tools[0]"),
        ({"http_options": {"timeout": 1}}, "config.http_options"),
        ({"automatic_function_calling": {"maximum_remote_calls": 3}}, "config.automatic_function_calling"),
        ({"automatic_continuation": True}, "config.automatic_continuation"),
        ({"should_return_http_response": True}, "config.should_return_http_response"),
        ({"continuation_token": "?"}, "config.continuation_token"),
        ({"response_schema": {"type": "objekt"}}, "config.response_schema.type"),
        ({"response_schema": {"properties": {"a": {"type": 5}}}}, "config.response_schema.properties.a.type"),
        ({"response_schema": {"anyOf": [{"minItems": "x"}]}}, "config.response_schema.anyOf[0].minItems"),
        ({"response_schema": "object"}, "config.response_schema"),
        ({"response_schema": type(print)}, "config.response_schema"),
        ({"response_schema": {"type": "string"}, "response_mime_type": "text/plain"}, "config.response_mime_type"),
        ({"response_schema": {}, "response_json_schema": {}}, "config.response_json_schema"),
        ({"response_json_schema": {"type": "STRING"}}, "config.response_json_schema.type"),
        ({"response_json_schema": [1]}, "config.response_json_schema"),
        (
            {"tools": [{"function_declarations": [{"name": "f", "parameters": {"required": "a"}}]}]},
            "config.tools[0].function_declarations[0].parameters.required",
        ),
        ({"system_instruction": "a", "config": {"system_instruction": "b"}}, "system_instruction"),
        ({"temperature": float("nan")}, "config.temperature"),
        ({"temperature": Hostile()}, "config.temperature"),
        ({"top_k": float("inf")}, "config.top_k"),
        ({"max_output_tokens": 0}, "config.max_output_tokens"),
        ({"max_output_tokens": 1.5}, "config.max_output_tokens"),
        ({"candidate_count": 2}, "config.candidate_count"),
        ({"stop_sequences": "END"}, "config.stop_sequences"),
        ({"stop_sequences": ["a"] * 6}, "config.stop_sequences"),
        ({"stop_sequences": {"a", "b"}}, "config.stop_sequences"),
        ({"safety_settings": ({"category": c} for c in "ab")}, "config.safety_settings"),
        ({"tools": deque([{"function_declarations": [{"parameters": {"type": 5}}]}])}, "config.tools"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "config.tools[0]"),
        ({"response_schema": {"name": "text"}}, "config.response_schema.name"),
        ({"response_schema": {"items": {"exclusiveMinimum": 0}}}, "config.response_schema.items.exclusiveMinimum"),
        ({"stop_sequences": ["\ud800"]}, "config.stop_sequences[0]"),
        ({"seed": 2**31}, "config.seed"),
        ({"response_json_schema": {"a": [float("nan")]}}, "config.response_json_schema.a[0]"),
        ({"response_json_schema": {1, 2}}, "config.response_json_schema"),
        ({"response_json_schema": nested(10_000)}, "config.response_json_schema"),
        ({"response_schema": {1: 2}}, "config.response_schema"),
        ({"tools": {"a": 1}}, "config.tools"),
        ({"tools": [b"x"]}, "config.tools"),
        ({"config": {"temprature": 1}}, "config.temprature"),
        ({"config": {1: 2}}, "config"),
        ({"config": "temperature=1"}, "config"),
        ({"config": ["temperature"]}, "config"),
        ({"config": 5}, "config"),
        ({"config": Hostile()}, "config"),
        ({"system_instruction": ""}, "system_instruction"),
        ({"system_instruction": b"x"}, "system_instruction"),
        ({"system_instruction": [{"parts": ["a"]}, {"parts": ["b"]}]}, "system_instruction"),
        ({"system_instruction": "\ud800"}, "system_instruction"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": "a b"}, "model"),
        ({"model": "m\n"}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"model": Hostile()}, "model"),
    ],
)
def test_a_wrong_field_is_refused_by_name(options, field):
    """The caller learns which field, what was given and what is expected."""
    with pytest.raises(InvalidRequest, match="expected") as raised:
        document(**options)
    assert raised.value.field.startswith(field)


@pytest.mark.parametrize("option", [{"temperature": 10**5000}, {"seed": 10**5000}, {"lane": 10**5000}], ids=list)
def test_numbers_too_long_to_print_are_refused_like_others(option):
    """Python refuses to print them, which is no reason to raise anything else."""
    with pytest.raises(InvalidRequest, match="cannot be shown"):
        make_order("Hello", MODEL, option)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lane", "urgent"),
        ("lane", True),
        ("lane", Hostile()),
        ("tenant", ""),
        ("tenant", "a b"),
        ("tenant", "a\n"),
        ("tenant", "\ud800"),
        ("deadline", 0),
        ("deadline", -1.0),
        ("deadline", float("nan")),
        ("deadline", float("inf")),
        ("deadline", MAX_DEADLINE + 1),
        ("deadline", "soon"),
        ("cache", "maybe"),
        ("cache", True),
        ("share", "all"),
    ],
)
def test_a_wrong_option_is_refused_by_name(option, value):
    """Options are checked as the request is, before anything is sent."""
    with pytest.raises(InvalidRequest) as raised:
        make_order("Hello", MODEL, {option: value})
    assert raised.value.field == option


def test_options_left_out_or_none_take_their_defaults():
    """None means: as if it were not given."""
    assert build_options() == build_options(lane=None, tenant=None, deadline=None, cache=None, share=None)
    assert build_options(lane=1).lane == "high"


def test_the_largest_request_goes_through_and_one_byte_more_does_not():
    """The limit is on the whole document, in bytes as they are sent, and the message says both figures."""
    empty = len(build_request("x", model=MODEL).encode()) - 1
    room = MAX_REQUEST_BYTES - empty
    assert len(build_request("é" * (room // 2) + "x" * (room % 2), model=MODEL).encode()) == MAX_REQUEST_BYTES
    with pytest.raises(InvalidRequest, match=f"{MAX_REQUEST_BYTES + 1} bytes.*at most {MAX_REQUEST_BYTES}"):
        build_request("x" * (room + 1), model=MODEL).encode()


def test_the_document_is_the_contract():
    """What a worker reads: version, model, turns, system instruction, and only what was set, in the REST spelling."""
    made = build_request("Hello", model=MODEL, system_instruction="Be brief.", config={"top_k": 4.0, "seed": None})
    assert made.encode() == (
        b'{"config":{"topK":4},"contents":[{"parts":[{"text":"Hello"}],"role":"user"}],'
        b'"model":"gemini-2.5-flash","system_instruction":{"parts":[{"text":"Be brief."}]},"v":1}'
    )
    assert json.loads(made.encode())["system_instruction"] == {"parts": [{"text": "Be brief."}]}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"$ref": "#/$defs/Missing"}, "config.response_schema.$ref"),
        ({"anyOf": [{"$ref": "#/anyOf/7"}]}, "config.response_schema.anyOf[0].$ref"),
        ({"items": {"$ref": "#/$defs/A/b"}, "$defs": {"A": {"type": "string"}}}, "config.response_schema.items.$ref"),
    ],
)
def test_a_reference_to_nothing_is_refused(schema, field):
    """The model would be told nothing where the caller meant something."""
    with pytest.raises(InvalidRequest) as raised:
        document(response_schema=schema)
    assert raised.value.field == field
    sound = {"items": {"$ref": "#/$defs/a~1b"}, "$defs": {"a/b": {"enum": ["$ref"], "default": {"$ref": "#/x"}}}}
    assert document(response_schema=sound)


def test_schemas_are_read_by_the_draft_they_name():
    """An earlier draft's words are right where its name stands."""
    tuple_of = {"type": "array", "items": [{"type": "string"}]}
    with pytest.raises(InvalidRequest):
        document(response_json_schema=tuple_of)
    assert document(response_json_schema={"$schema": "http://json-schema.org/draft-07/schema#", **tuple_of})


def test_a_prompt_of_a_million_tokens_is_accepted():
    """Four megabytes go through, as one text or as many turns, and what is inline is not counted here."""
    assert len(make_order("word " * 800_000, MODEL, {}).document) > 4_000_000
    turns = [{"role": "user", "parts": ["word " * 800]} for _ in range(1000)]
    assert len(make_order(turns, MODEL, {}).document) > 4_000_000
    image = {"inline_data": {"mime_type": "image/png", "data": bytes(MAX_REQUEST_BYTES)}}
    assert len(make_order([image], MODEL, {}).document) > MAX_REQUEST_BYTES
