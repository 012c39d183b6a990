import json

import pytest

from genqueue_lab.emulator.catalog import MODELS, page
from genqueue_lab.emulator.errors import GoogleError
from genqueue_lab.emulator.exchange import Request
from genqueue_lab.emulator.requests import count_tokens, parse_generate

FLASH = MODELS["gemini-2.5-flash"]
PRO_3 = MODELS["gemini-3-pro-preview"]
HELLO = {"role": "user", "parts": [{"text": "hello"}]}
NO_DATA = (
    "* GenerateContentRequest.contents[1].parts[0].data: required oneof field 'data' must have one initialized field\n"
)


def request(body):
    """Return a request with a body, bytes as they are or JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request("POST", "/", {}, bytearray(data))


def refusal(body, model=FLASH):
    """Return the error a body is refused with."""
    with pytest.raises(GoogleError) as caught:
        parse_generate(request(body), model)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    return caught.value


def test_names_may_be_snake_case_and_a_list_may_be_one_bare_message():
    """Google's transcoder takes both spellings and a lone message for a list; so does the emulator."""
    parsed = parse_generate(
        request(
            {
                "contents": {"parts": {"text": "hi"}},
                "system_instruction": {"parts": {"text": "be kind"}},
                "generation_config": {"top_p": "0.5", "stop_sequences": "x", "seed": None},
            }
        ),
        FLASH,
    )
    assert parsed.contents == [{"parts": [{"text": "hi"}]}]
    assert parsed.config == {"topP": 0.5, "stopSequences": ["x"]}
    assert parsed.prompt_tokens == 1 + 2


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"x": 1}, 'Unknown name "x": Cannot find field.'),
        ({"generationConfig": {"topZ": 1}}, "Unknown name \"topZ\" at 'generation_config': Cannot find field."),
        (
            {"contents": [HELLO, {"parts": [{"txt": ""}]}]},
            "Unknown name \"txt\" at 'contents[1].parts[0]': Cannot find field.",
        ),
    ],
)
def test_an_unknown_field_is_named_with_its_place(body, sentence):
    """A field the API does not have is refused in Google's words, with BadRequest details."""
    error = refusal({"contents": [HELLO], **body})
    assert error.message == f"Invalid JSON payload received. {sentence}"
    assert error.details[0]["fieldViolations"][0]["description"] == error.message


def test_schemas_are_read_by_their_own_fields():
    """Names inside a schema may be snake_case; properties keep theirs, and JSON Schema is left alone."""
    schema = {
        "type": "ARRAY",
        "min_items": "3",
        "items": {"properties": {"min_items": {"any_of": [{"type": "STRING"}]}}},
    }
    function = {"name": "look", "parameters": schema, "response_json_schema": {"min_items": 1}}
    parsed = parse_generate(request({"contents": [HELLO], "tools": [{"function_declarations": [function]}]}), FLASH)
    (read,) = parsed.functions
    assert read["parameters"]["minItems"] == 3
    assert read["parameters"]["items"]["properties"] == {"min_items": {"anyOf": [{"type": "STRING"}]}}
    assert read["responseJsonSchema"] == {"min_items": 1}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"properties": {"a": {"$ref": "#"}}}, "\"$ref\" at 'generation_config.response_schema.properties[a]'"),
        ({"additionalProperties": False}, "\"additionalProperties\" at 'generation_config.response_schema'"),
        ({"properties": []}, "Invalid value at 'generation_config.response_schema.properties' (Map), []"),
    ],
)
def test_a_schema_outside_of_the_subset_is_refused(config, sentence):
    """JSON Schema's own words in a responseSchema get the API's well-known refusal."""
    assert sentence in refusal({"contents": [HELLO], "generationConfig": {"responseSchema": config}}).message


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"temperature": "warm"}, "Invalid value at 'generation_config.temperature' (TYPE_FLOAT), \"warm\""),
        ({"seed": 1.5}, "Invalid value at 'generation_config.seed' (TYPE_INT32), 1.5"),
        ({"responseMimeType": 3}, "Invalid value at 'generation_config.response_mime_type' (TYPE_STRING), 3"),
        ({"thinkingConfig": {"includeThoughts": "yes"}}, 'thinking_config.include_thoughts\' (TYPE_BOOL), "yes"'),
        ({"thinkingConfig": []}, "generativelanguage.v1beta.ThinkingConfig), []"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(config, sentence):
    """The place, the type and the value are in the message."""
    assert sentence in refusal({"contents": [HELLO], "generationConfig": config}).message


def test_a_part_of_the_wrong_type_is_refused():
    """What is to hold fields is checked before anybody looks for them."""
    message = refusal({"contents": [{"parts": [{"functionCall": "look"}]}]}, PRO_3).message
    assert "Invalid value at 'contents[0].parts[0].function_call' (Map), \"look\"" in message


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"temperature": 2.1}, "temperature: temperature must be in the range [0.0, 2.0]."),
        ({"temperature": -0.1}, "temperature: temperature must be in the range [0.0, 2.0]."),
        ({"topP": 1.1}, "top_p: top_p must be in the range [0.0, 1.0]."),
        ({"topK": -1}, "top_k: top_k must be non-negative."),
        ({"maxOutputTokens": 0}, "max_output_tokens: max_output_tokens must be positive."),
        ({"stopSequences": list("abcdef")}, "stop_sequences: the number of stop_sequences must not exceed 5."),
        ({"responseMimeType": "text/html"}, "response_mime_type: allowed mimetypes are"),
    ],
)
def test_a_value_out_of_bounds_is_refused(config, field):
    """Bounds are those of the API, one starred line for each."""
    message = refusal({"contents": [HELLO], "generationConfig": config}).message
    assert message.startswith(f"* GenerateContentRequest.generation_config.{field}")
    assert message.endswith("\n")


@pytest.mark.parametrize("config", [{"temperature": 0}, {"temperature": 2}, {"topP": 1}, {"stopSequences": ["\n"] * 5}])
def test_the_bounds_themselves_are_allowed(config):
    """The ends of a range belong to it."""
    assert parse_generate(request({"contents": [HELLO], "generationConfig": config}), FLASH).config == config


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([], "* GenerateContentRequest.contents: contents is not specified\n"),
        ([{"parts": []}], "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty.\n"),
        ([HELLO, {"parts": [{"thought": True}]}], NO_DATA),
        ([{**HELLO, "role": "assistant"}], "Please use a valid role: user, model."),
    ],
)
def test_contents_that_say_nothing_are_refused(contents, message):
    """Empty contents, empty parts, parts without data and foreign roles get Google's sentences."""
    assert refusal({"contents": contents}).message == message


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"contents":[{"parts":[{"text":"\xff"}]}]}', b"nonsense\n"])
def test_a_body_that_is_no_json_is_refused(body):
    """Broken JSON and broken UTF-8 are the caller's error, not a crash."""
    assert refusal(body).message.startswith("Invalid JSON payload received. Unexpected token.\n")


def test_a_body_that_is_no_object_is_refused():
    """A JSON list is no request."""
    assert "Root element must be a message" in refusal(b"[]").message


def test_a_body_over_the_limit_is_refused():
    """The API's limit for a request is 20 MB."""
    large = request({"contents": [HELLO]})
    large.oversized = True
    with pytest.raises(GoogleError, match="payload size exceeds the limit: 20971520 bytes"):
        parse_generate(large, FLASH)


def test_a_prompt_over_the_models_limit_is_refused():
    """The model's input limit holds, in tokens."""
    long = {"parts": [{"text": "x" * (FLASH.input_limit * 4 + 1)}]}
    assert "(1048577) exceeds the maximum number of tokens allowed (1048576)" in refusal({"contents": [long]}).message


def test_several_candidates_are_refused():
    """Current models answer with one candidate only."""
    assert "Multiple candidates" in refusal({"contents": [HELLO], "generationConfig": {"candidateCount": 2}}).message


CALL = {"functionCall": {"name": "look", "args": {}}}
RESULT = {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {}}}]}


def test_gemini_3_wants_its_thought_signature_back():
    """A function call of the current turn without its signature is refused by Gemini 3 and accepted by 2.5."""
    body = {"contents": [HELLO, {"role": "model", "parts": [CALL]}, RESULT]}
    assert "missing a thought_signature in functionCall parts" in refusal(body, PRO_3).message
    assert parse_generate(request(body), FLASH).contents[1]["parts"] == [CALL]


def test_calls_of_earlier_turns_need_no_signature():
    """Only the current turn, from the user's last words on, is checked; of parallel calls only the first is signed."""
    signed = {**CALL, "thoughtSignature": "c2lnbmVk"}
    contents = [HELLO, {"role": "model", "parts": [CALL]}, RESULT, HELLO, {"role": "model", "parts": [signed, CALL]}]
    assert len(parse_generate(request({"contents": [*contents, RESULT]}), PRO_3).contents) == 6


def test_tokens_are_counted_for_contents_or_a_whole_request():
    """Four characters make a token, an image 258; a whole request includes its system instruction."""
    image = {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}
    assert count_tokens(request({"contents": [HELLO, image]}), FLASH) == 2 + 258
    whole = {"contents": [HELLO], "systemInstruction": HELLO}
    assert count_tokens(request({"generateContentRequest": whole}), FLASH) == 4
    with pytest.raises(GoogleError, match=r"\* CountTokensRequest\.contents: contents is not specified"):
        count_tokens(request({}), FLASH)


def test_the_catalog_is_read_page_by_page():
    """Following nextPageToken gives every model once."""
    names, token = [], ""
    while True:
        listed = page({"pageSize": "3", "pageToken": token})
        names += [model["name"] for model in listed["models"]]
        if not (token := listed.get("nextPageToken", "")):
            break
    assert names == [f"models/{name}" for name in MODELS]


@pytest.mark.parametrize(
    "query", [{"pageSize": "x"}, {"pageSize": "-1"}, {"pageToken": "?"}, {"pageToken": "bW9kZWxzOjk5"}]
)
def test_a_page_that_does_not_exist_is_refused(query):
    """Sizes that are no number and tokens nobody gave out are the caller's error."""
    with pytest.raises(GoogleError):
        page(query)
