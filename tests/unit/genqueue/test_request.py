"""What a request may be, and what a caller is told when it may not."""

import json

import pytest

from genqueue.errors import InvalidRequest
from genqueue.order import make_order
from genqueue.request import MAX_DEADLINE, MAX_REQUEST_BYTES, build_options, build_request, contents_of

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
            [{"role": "user", "parts": [{"functionCall": {"name": "f", "args": {"mime_type": 1}}}]}],
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
        (nested(10_000), "contents[0]"),
        ([["Hello"]], "contents[0]"),
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
        ([{"inline_data": "x"}], "contents[0].inlineData"),
        ([{1: "x"}], "contents[0].parts[0]"),
        (["\ud83d"], "contents[0].parts[0].text"),
        ([{"text": "x", "thought": float("nan")}], "contents[0].parts[0].thought"),
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
        ({"temperature": float("nan")}, "config.temperature"),
        ({"temperature": Hostile()}, "config.temperature"),
        ({"top_k": float("inf")}, "config.top_k"),
        ({"max_output_tokens": 0}, "config.max_output_tokens"),
        ({"max_output_tokens": 1.5}, "config.max_output_tokens"),
        ({"candidate_count": 2}, "config.candidate_count"),
        ({"stop_sequences": "END"}, "config.stop_sequences"),
        ({"stop_sequences": ["a"] * 6}, "config.stop_sequences"),
        ({"stop_sequences": ["\ud800"]}, "config.stop_sequences[0]"),
        ({"seed": 2**31}, "config.seed"),
        ({"response_json_schema": {"a": [float("nan")]}}, "config.response_json_schema.a[0]"),
        ({"response_json_schema": {1, 2}}, "config.response_json_schema"),
        ({"response_json_schema": nested(10_000)}, "config"),
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
    """What a worker reads: version, model, turns, system instruction, and only the fields that were set."""
    made = build_request("Hello", model=MODEL, system_instruction="Be brief.", config={"top_k": 4.0, "seed": None})
    assert made.encode() == (
        b'{"config":{"top_k":4},"contents":[{"parts":[{"text":"Hello"}],"role":"user"}],'
        b'"model":"gemini-2.5-flash","system_instruction":{"parts":[{"text":"Be brief."}]},"v":1}'
    )
    assert json.loads(made.encode())["system_instruction"] == {"parts": [{"text": "Be brief."}]}
