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
        ({"http_options": {"base_url": "https://elsewhere"}}, "httpOptions"),
        ({"automatic_function_calling": {"maximum_remote_calls": 3}}, "automaticFunctionCalling"),
        ({"automatic_continuation": True}, "automaticContinuation"),
        ({"should_return_http_response": True}, "shouldReturnHttpResponse"),
        ({"temprature": 1}, "temprature"),
        ({"tools": [{"google_maps": {"auth_config": {"oauthConfig": {}}}}]}, "tools.googleMaps.authConfig.oauthConfig"),
        ({"response_schema": {"type": "object", "additionalProperties": True}}, "responseSchema.additionalProperties"),
    ],
)
def test_what_the_api_does_not_take_is_refused_by_name(config, field):
    """Unknown fields, fields of the SDK's own client and fields of other APIs are named."""
    with pytest.raises(ProviderError) as raised:
        encode_body(ProviderRequest("m", CONTENTS, None, config))
    assert (raised.value.code, raised.value.retryable) == ("unsupported_field", False)
    assert f" no {field};" in raised.value.message


def test_settings_of_the_sdks_client_that_ask_for_nothing_are_left_out():
    """What would happen anyway may be asked for."""
    config = {
        "automatic_function_calling": {"disable": True},
        "automatic_continuation": False,
        "should_return_http_response": False,
        "temperature": None,
        "tools": [],
    }
    assert json.loads(encode_body(ProviderRequest("m", CONTENTS, None, config))) == {
        "contents": CONTENTS,
        "generationConfig": {},
    }


def test_a_system_instruction_is_given_once():
    """Two of them are a mistake, not a choice of ours."""
    request = ProviderRequest("m", CONTENTS, {"parts": []}, {"system_instruction": "be brief"})
    with pytest.raises(ProviderError, match=r"^invalid_request: .*given twice"):
        encode_body(request)


def test_what_is_the_callers_own_keeps_its_names_and_nulls():
    """Arguments, answers of functions, JSON schemas and labels are not spelled anew."""
    own = {"snake_key": None, "Camel": [{"in_ner": 1.0}]}
    parts = [
        {"functionCall": {"name": "f", "args": own}},
        {"function_response": {"name": "f", "response": own, "will_continue": False}},
        {"text": "t", "part_metadata": own},
    ]
    config = {"response_json_schema": own, "labels": {"a_b": "c"}}
    body = json.loads(encode_body(ProviderRequest("m", [{"parts": parts}], None, config)))
    assert body["contents"][0]["parts"] == [
        {"functionCall": {"name": "f", "args": own}},
        {"functionResponse": {"name": "f", "response": own, "willContinue": False}},
        {"text": "t", "partMetadata": own},
    ]
    assert body["generationConfig"] == {"responseJsonSchema": own}
    assert body["labels"] == {"a_b": "c"}


def test_an_optional_choice_keeps_its_choices():
    """Where the SDK loses the choices of a choice inside an optional value, ours keeps them."""
    inner = {"anyOf": [{"type": "number"}, {"type": "string"}]}
    config = {"response_schema": {"anyOf": [inner, {"type": "null"}]}}
    body = json.loads(encode_body(ProviderRequest("m", CONTENTS, None, config)))
    assert body["generationConfig"]["responseSchema"] == {
        "anyOf": [{"type": "NUMBER"}, {"type": "STRING"}],
        "nullable": True,
    }


def test_the_contracts_request_is_read_and_what_it_adds_is_left_out():
    """The stored JSON becomes a request; versions may add fields."""
    raw = b'{"v":1,"model":"m","contents":[{"parts":[]}],"config":{"top_p":1},"added":true}'
    assert decode_request(raw) == ProviderRequest("m", [{"parts": []}], None, {"top_p": 1})


@pytest.mark.parametrize("raw", [b"{", b"{}", b'{"model":1,"contents":[]}'])
def test_a_stored_request_that_cannot_be_read_is_an_error(raw):
    """A broken request fails for good."""
    with pytest.raises(ProviderError, match=r"^invalid_request: "):
        decode_request(raw)


def test_a_route_does_not_print_its_key():
    """Routes are logged."""
    assert "secret" not in repr(Route("r", "https://x", "secret"))
