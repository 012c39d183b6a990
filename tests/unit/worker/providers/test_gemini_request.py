"""What our own encoder decides by itself; that it agrees with the SDK is `test_request_conformance`."""

import json

import pytest

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_request import encode_body, model_path
from genqueue_worker.providers.seam import ProviderRequest, Route, decode_request

CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-pro-preview", "models/gemini-3-pro-preview"),
        ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("tunedModels/my_model-1", "tunedModels/my_model-1"),
    ],
)
def test_models_come_with_and_without_their_collection(model, path):
    """The path is the same either way."""
    assert model_path(model) == path


@pytest.mark.parametrize(
    "model",
    [
        "",
        "models/",
        "../x?y",
        "a/b",
        "models/../x",
        "a..b",
        "..",
        ".",
        "a?b",
        "a#b",
        "a%2e",
        "a:b",
        "a b",
        "a\n",
        "é",
        "a\\b",
    ],
)
def test_a_model_name_cannot_change_the_url(model):
    """Anything that is not one plain path segment is refused by name, and not worth another try."""
    with pytest.raises(ProviderError) as raised:
        model_path(model)
    assert (raised.value.code, raised.value.retryable) == ("invalid_model", False)
    assert repr(model) in raised.value.message


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"httpOptions": {"baseUrl": "https://elsewhere"}}, "httpOptions"),
        ({"automaticContinuation": True}, "automaticContinuation"),
        ({"temprature": 1}, "temprature"),
        ({"tools": [{"googleMaps": {"authConfig": {"oauthConfig": {}}}}]}, "tools.googleMaps.authConfig.oauthConfig"),
        ({"responseSchema": {"type": "OBJECT", "additionalProperties": True}}, "responseSchema.additionalProperties"),
    ],
)
def test_what_the_api_does_not_take_is_refused_by_name(config, field):
    """Unknown fields, fields of google-genai's own client and fields of other APIs are named."""
    with pytest.raises(ProviderError) as raised:
        encode_body(ProviderRequest("m", CONTENTS, None, config))
    assert (raised.value.code, raised.value.retryable) == ("unsupported", False)
    assert f" no {field};" in raised.value.message


def test_without_a_config_there_are_contents_alone():
    """Nothing is sent that nobody said."""
    assert json.loads(encode_body(ProviderRequest("m", CONTENTS))) == {"contents": CONTENTS}


def test_what_is_the_callers_own_is_not_looked_into():
    """Arguments, answers of functions and labels may hold names that the API refuses elsewhere."""
    own = {"partialArgs": None, "willContinue": [{"in_ner": 1.0}]}
    parts = [
        {"functionCall": {"name": "f", "args": own}},
        {"functionResponse": {"name": "f", "response": own, "willContinue": False}},
        {"text": "t", "partMetadata": own},
    ]
    body = json.loads(encode_body(ProviderRequest("m", [{"parts": parts}], None, {"labels": {"a_b": "c"}})))
    assert body["contents"][0]["parts"] == parts
    assert body["labels"] == {"a_b": "c"}


def test_declarations_of_functions_are_gathered_in_one_tool():
    """The API refuses several tools that declare functions."""
    tools = [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}, {"functionDeclarations": [{"name": "g"}]}]
    body = json.loads(encode_body(ProviderRequest("m", CONTENTS, None, {"tools": tools})))
    assert body["tools"] == [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]


def test_an_optional_choice_keeps_its_choices():
    """Where the SDK loses the choices of a choice inside an optional value, ours keeps them."""
    inner = {"anyOf": [{"type": "NUMBER"}, {"type": "STRING"}]}
    config = {"responseSchema": {"anyOf": [inner, {"type": "NULL"}]}}
    body = json.loads(encode_body(ProviderRequest("m", CONTENTS, None, config)))
    assert body["generationConfig"]["responseSchema"] == {
        "anyOf": [{"type": "NUMBER"}, {"type": "STRING"}],
        "nullable": True,
    }


def test_that_an_object_is_closed_need_not_be_said():
    """The API takes no additionalProperties; that there are none is how it answers anyway."""
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    config = {"responseSchema": {**schema, "additionalProperties": False}}
    body = json.loads(encode_body(ProviderRequest("m", CONTENTS, None, config)))
    assert body["generationConfig"]["responseSchema"] == schema


def test_the_contracts_request_is_read_and_what_it_adds_is_left_out():
    """The stored JSON becomes a request; versions may add fields."""
    raw = b'{"v":1,"model":"m","contents":[{"parts":[]}],"config":{"topP":1},"added":true}'
    assert decode_request(raw) == ProviderRequest("m", [{"parts": []}], None, {"topP": 1})


@pytest.mark.parametrize("raw", [b"{", b"{}", b'{"model":1,"contents":[]}'])
def test_a_stored_request_that_cannot_be_read_is_an_error(raw):
    """A broken request fails for good."""
    with pytest.raises(ProviderError, match=r"^invalid_request: "):
        decode_request(raw)


def test_a_route_does_not_print_its_key():
    """Routes are logged."""
    assert "secret" not in repr(Route("r", "https://x", "secret"))


def test_files_in_cloud_storage_are_vertex_ais():
    """The Developer API reads its own files and public addresses; the error says who reads the others."""
    contents = [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}}]}]
    with pytest.raises(
        ProviderError, match=r"takes no contents.parts.fileData.fileUri; of gs:// files, .* vertex/<model>"
    ):
        encode_body(ProviderRequest("m", contents))
