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


def test_all_is_checked_before_a_server_is_asked():
    """An order is whole: nothing in it can turn out to be wrong later."""
    with pytest.raises(InvalidRequest):
        make_order("Hello", "m", {"response_json_schema": {"a": float("nan")}})
    assert isinstance(make_order("Hello", "m", {}).document, bytes)
