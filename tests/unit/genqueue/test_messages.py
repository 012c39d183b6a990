"""OpenAI's chat messages as Gemini's contents."""

import json
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from genqueue.errors import InvalidRequest
from genqueue.order import make_order
from genqueue.request.messages import contents_of_messages

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a_b": 1}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
PIXEL = "iVBORw0KGgo="


def turns(*messages):
    """Return the contents that messages come to."""
    return contents_of_messages(messages)[0]


def parts_of(*content):
    """Return the parts that a user's content comes to."""
    return turns({"role": "user", "content": list(content)})[0]["parts"]


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([USER], {"contents": "Hi"}),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {"contents": "Hi"}),
        ([{"role": "system", "content": "Be brief."}, USER], {"contents": "Hi", "system_instruction": "Be brief."}),
        ([{"role": "developer", "content": "Be brief."}, USER], {"contents": "Hi", "system_instruction": "Be brief."}),
        (
            [USER, {"role": "assistant", "content": "Yes?", "refusal": None, "tool_calls": []}, USER],
            {"contents": ["Hi", {"role": "model", "parts": ["Yes?"]}, "Hi"]},
        ),
        (
            [USER, CALLED, {"role": "tool", "tool_call_id": "c1", "content": '{"ok": 1.0}'}],
            {
                "contents": [
                    "Hi",
                    {"role": "model", "parts": [{"function_call": {"id": "c1", "name": "f", "args": {"a_b": 1}}}]},
                    {
                        "role": "user",
                        "parts": [{"function_response": {"id": "c1", "name": "f", "response": {"ok": 1}}}],
                    },
                ]
            },
        ),
    ],
)
def test_a_conversation_in_either_form_is_one_document(messages, options):
    """The same meaning is the same question, and so shares its answer."""
    contents = options.pop("contents")
    assert make_order(None, "m", {"messages": messages}).document == make_order(contents, "m", options).document


def test_answers_of_tools_that_stand_together_are_one_turn():
    """Gemini wants the answers to one turn's calls in one turn, each with the name of its function."""
    second = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}}
    said = turns(
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "c2", "content": "plain"},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "[1]"}], "name": "f"},
        USER,
    )
    assert [turn["role"] for turn in said] == ["user", "model", "user", "user"]
    assert [part["functionCall"] for part in said[1]["parts"]] == [
        {"id": "c1", "name": "f", "args": {"a_b": 1}},
        {"id": "c2", "name": "g", "args": {}},
    ]
    assert [part["functionResponse"] for part in said[2]["parts"]] == [
        {"id": "c2", "name": "g", "response": {"result": "plain"}},
        {"id": "c1", "name": "f", "response": {"result": "[1]"}},
    ]


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', f'{{"a": {10**30}}}', "[" * 20_000])
def test_an_answer_of_a_tool_that_is_no_json_after_all_is_a_text(text):
    """A tool says what it says: Python's json reads and writes NaN, which nothing else on the way does."""
    said = turns(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": text},
    )
    assert said[2]["parts"][0]["functionResponse"]["response"] == {"result": text}


def test_calls_of_the_older_kind_are_understood():
    """`function_call` and the role "function" came before tool calls."""
    said = turns(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert said[1]["parts"] == [{"functionCall": {"name": "f", "args": {}}}]
    assert said[2]["parts"] == [{"functionResponse": {"name": "f", "response": {"result": "1"}}}]


def test_signatures_come_back_from_where_geminis_own_interface_puts_them():
    """A signature in `extra_content` belongs to its call, or to the message's text."""
    extra = {"google": {"thought_signature": "AQI"}}
    said = turns(
        {"role": "assistant", "content": "Yes", "extra_content": extra},
        {**CALLED, "tool_calls": [{**CALL, "extra_content": extra}]},
    )
    assert said[0]["parts"] == [{"text": "Yes", "thoughtSignature": "AQI="}]
    assert said[1]["parts"][0]["thoughtSignature"] == "AQI="


def test_openais_own_objects_are_read():
    """Their client's messages are pydantic objects."""

    class Function(BaseModel):
        name: str
        arguments: str

    class ToolCall(BaseModel):
        id: str
        function: Function
        type: str = "function"

    class Message(BaseModel):
        content: str | None = None
        refusal: str | None = None
        role: str = "assistant"
        annotations: list[str] | None = None
        audio: str | None = None
        tool_calls: list[ToolCall] | None = None

    message = Message(tool_calls=[ToolCall(id="c1", function=Function(name="f", arguments='{"a_b": 1}'))])
    assert turns(USER, message) == turns(USER, CALLED)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        ),
        (
            {"type": "image_url", "image_url": f"DATA:image/png;name=a;base64,{PIXEL[:-1]}"},
            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:IMAGE/PNG;charset=utf-8;base64,%2B/8%3D"}},
            {"inlineData": {"mimeType": "image/png", "data": "+/8="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.webp"}},
            {"fileData": {"fileUri": "https://x.test/a.webp", "mimeType": "image/webp"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.wav", "file_data": "AQI="}},
            {"inlineData": {"mimeType": "audio/wav", "data": "AQI="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
            {"inlineData": {"mimeType": "text/plain", "data": "YSBi"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a/b.jpg?c=d"}},
            {"fileData": {"fileUri": "https://x.test/a/b.jpg?c=d", "mimeType": "image/jpeg"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AQI=", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "AQI="}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AQI="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AQI="}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "AQI="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AQI="}},
        ),
    ],
)
def test_attachments_become_inline_data_or_a_files_address(content, part):
    """Data URIs, addresses, audio and files have their part."""
    assert parts_of({"type": "text", "text": "See"}, content) == [{"text": "See"}, part]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ("Hi", "messages"),
        ([], "messages"),
        ([{"role": "system", "content": "alone"}], "messages"),
        (["Hi"], "messages[0]"),
        ([{"role": "model", "content": "Hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "Hi"}], "messages[0].role"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        ([{**USER, "name": "Ann"}], "messages[0].name"),
        ([{"role": "assistant"}], "messages[0].content"),
        ([{"role": "assistant", "content": "a", "audio": {"id": "x"}}], "messages[0].audio"),
        ([{"role": "assistant", "extra_content": {"google": {"thought_signature": "AQI="}}}], "messages[0].extra"),
        ([{"role": "assistant", "tool_calls": "f"}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [SimpleNamespace()]}], "messages[0].tool_calls[0]"),
        ([{**CALLED, "tool_calls": [{**CALL, "type": "custom"}]}], "messages[0].tool_calls[0]"),
        ([{**CALLED, "tool_calls": [{**CALL, "id": 5}]}], "messages[0].tool_calls[0].id"),
        ([{**CALLED, "tool_calls": [{"function": {"name": ""}}]}], "messages[0].tool_calls[0].function.name"),
        (
            [{**CALLED, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            [{**CALLED, "tool_calls": [{"function": {"name": "f", "arguments": "[" * 100_000}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([CALLED, {"role": "tool", "tool_call_id": "c9", "content": "1"}], "messages[1].tool_call_id"),
        ([CALLED, {"role": "tool", "tool_call_id": ["c1"], "content": "1"}], "messages[1].tool_call_id"),
        ([CALLED, {"role": "tool", "content": "1"}], "messages[1].tool_call_id"),
        ([{"role": "user", "content": [7]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "video", "video": {}}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}],
            "messages[0].content[0].file.file_id",
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_data": "AQI="}}]}],
            "messages[0].content[0].file",
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "flac"}}]}],
            "messages[0].content[0].input_audio.format",
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "wav"}}]}],
            "messages[0].content[0].input_audio.data",
        ),
    ],
    ids=str,
)
def test_what_gemini_has_nothing_for_is_refused_by_path(messages, field):
    """Nothing is dropped in silence."""
    with pytest.raises(InvalidRequest, match="expected") as raised:
        contents_of_messages(messages)
    assert raised.value.field.startswith(field)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "https://x.test/a",
        "http://x.test/a.png",
        "ftp://x/a.png",
        "data:,a",
        "data:image/png;base64,?",
        "https://[",
        "\ud800",
    ],
)
def test_an_image_that_gemini_cannot_get_is_refused(url):
    """Without a kind, over plain HTTP, or as broken data it would only fail later."""
    with pytest.raises(InvalidRequest) as raised:
        parts_of({"type": "image_url", "image_url": {"url": url}})
    assert raised.value.field.startswith("messages[0].content[0]")


@pytest.mark.parametrize("options", [{"messages": [USER], "system_instruction": "a"}, {"messages": None}])
def test_one_source_for_each_thing(options):
    """Either contents or messages, and one system instruction."""
    if options["messages"] is not None:
        options["messages"] = [{"role": "system", "content": "b"}, USER]
    with pytest.raises(InvalidRequest):
        make_order(None, "m", options)
    with pytest.raises(InvalidRequest, match="either contents or messages"):
        make_order("Hi", "m", {"messages": [USER]})


def test_images_keep_their_place_between_texts():
    """Parts come in the order they were written."""
    content = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}, "b"]
    assert [next(iter(part)) for part in parts_of(*content)] == ["text", "inlineData", "text"]
    assert json.dumps(parts_of(*content)).count(PIXEL) == 1
