"""How the arguments of `submit` come together."""

import json

import pytest

from genqueue.errors import InvalidRequest
from genqueue.options import JobOptions
from genqueue.order import SubmitOptions, make_order
from genqueue.request.config import GenerationConfig


def test_keywords_and_config_are_one_configuration():
    """A field may stand in either place."""
    order = make_order("Hello", "m", {"temperature": 0.5, "config": {"seed": 7}, "lane": "low"})
    assert json.loads(order.document)["config"] == {"temperature": 0.5, "seed": 7}
    assert order.options.lane == "low"


def test_a_field_in_both_places_is_refused():
    """Which of the two was meant is not guessed."""
    with pytest.raises(InvalidRequest, match="not in both") as raised:
        make_order("Hello", "m", {"temperature": 0.5, "config": {"temperature": 0.5}})
    assert raised.value.field == "temperature"


def test_a_keyword_of_none_leaves_the_config_as_it_is():
    """A wrapper that hands its own defaults on takes nothing away."""
    order = make_order("Hello", "m", {"temperature": None, "config": {"temperature": 0.5}})
    assert json.loads(order.document)["config"] == {"temperature": 0.5}


def test_an_unknown_argument_is_refused_by_name():
    """A typo is not dropped in silence; of several, the first is named."""
    with pytest.raises(InvalidRequest, match="none of this name") as raised:
        make_order("Hello", "m", {"lane": "high", "temprature": 1, "tenat": "x"})
    assert raised.value.field == "temprature"


def test_the_callers_config_is_left_alone():
    """The mapping that was given is read, not changed."""
    config = {"seed": 7}
    make_order("Hello", "m", {"temperature": 0.5, "config": config})
    assert config == {"seed": 7}


def test_every_typed_keyword_exists():
    """What the signature offers is accepted by the models behind it."""
    known = {"system_instruction", "messages", "config", *JobOptions.model_fields, *GenerationConfig.model_fields}
    assert set(SubmitOptions.__annotations__) <= known


@pytest.mark.parametrize(
    ("contents", "arguments", "reason"),
    [
        (["a", {"inline_data": {"mime_type": "image/png", "data": "aaaa"}}], {}, "contents has a part with inlineData"),
        ("a", {"tools": [{"google_search": {}}]}, "config.tools is set"),
        ("a", {"response_schema": {"type": "STRING"}}, "config.responseSchema is set"),
        ("a", {"response_json_schema": {"type": "string"}}, "config.responseJsonSchema is set"),
        ("a", {"response_mime_type": "application/json"}, "config.responseMimeType is application/json"),
        ("a", {"response_modalities": ["TEXT", "IMAGE"]}, "more than TEXT"),
    ],
)
def test_only_plain_text_can_be_gone_on_with(contents, arguments, reason):
    """Anything else is refused by the option's name, with what is in the way; it may begin anew all the same."""
    with pytest.raises(InvalidRequest, match=reason) as raised:
        make_order(contents, "m", {**arguments, "on_interrupt": "continue"})
    assert raised.value.field == "on_interrupt"
    assert make_order(contents, "m", {**arguments, "on_interrupt": "fail"}).options.on_interrupt == "fail"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"system_instruction": "Be brief."}, {"response_mime_type": "text/plain", "response_modalities": ["TEXT"]}],
)
def test_plain_text_can_be_gone_on_with(arguments):
    """A chat too, with what a model's own turns carry."""
    turns = [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b", "thought": True}]}]
    order = make_order(turns, "m", {**arguments, "on_interrupt": "continue"})
    assert (order.options.on_interrupt, order.replayed_from) == ("continue", "")


def test_all_is_checked_before_a_server_is_asked():
    """An order is whole: nothing in it can turn out to be wrong later."""
    with pytest.raises(InvalidRequest):
        make_order("Hello", "m", {"response_json_schema": {"a": float("nan")}})
    assert isinstance(make_order("Hello", "m", {}).document, bytes)
