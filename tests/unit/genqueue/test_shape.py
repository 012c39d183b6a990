"""What an answer is to be: Python types as schemas, and answers read into them."""

import dataclasses
import enum
import json
import uuid
from typing import Annotated, Literal, NamedTuple, NewType

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from genqueue.errors import InvalidRequest
from genqueue.order import make_order
from genqueue.request.shape import read_answer, shape_of
from genqueue.result import Result, Usage, with_parsed


class Color(enum.Enum):
    """Two choices."""

    RED = "red"
    BLUE = "blue"


class City(BaseModel):
    """Fields that do not come in the order of the alphabet."""

    name: str
    area: float | None = None


class Tree(BaseModel):
    """Refers to itself."""

    leaves: list["Tree"] = []


class Closed(BaseModel, extra="forbid"):
    """Takes nothing else."""

    name: str


@dataclasses.dataclass
class Point:
    """A dataclass."""

    y: int
    x: int


class Note(TypedDict):
    """A typed dictionary."""

    text: str


class Pair(NamedTuple):
    """A tuple."""

    a: int
    b: str


def config(shape, **options):
    """Return the configuration stored for a shape."""
    return json.loads(make_order("Hi", "m", {"response_schema": shape, **options}).document)["config"]


@pytest.mark.parametrize(
    ("shape", "answer", "value"),
    [
        (City, '{"name": "Rome", "area": 1}', City(name="Rome", area=1)),
        (list[City], '[{"name": "Rome"}]', [City(name="Rome")]),
        (City | None, "null", None),
        (Point, '{"y": 1, "x": 2}', Point(1, 2)),
        (Note, '{"text": "a"}', {"text": "a"}),
        (Color, '"red"', Color.RED),
        (Color, "red\n", Color.RED),
        (Literal["a", "b"], '"a"', "a"),
        (int | str, "5", 5),
        (list[int], "[1]", [1]),
        (NewType("Count", int), "1", 1),
        (TypeAdapter(list[int]), "[1]", [1]),
        (Annotated[list[int], Field(min_length=1)], "[1]", [1]),
    ],
)
def test_types_geminis_schema_can_say(shape, answer, value):
    """They go out as `responseSchema`, answered in JSON, and the answer comes back as the type."""
    stored = config(shape)
    assert stored["responseMimeType"] == "application/json"
    assert stored["responseSchema"]
    assert read_answer(answer, shape) == value


@pytest.mark.parametrize(
    ("shape", "answer", "value"),
    [
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Tree, '{"leaves": [{"leaves": []}]}', Tree(leaves=[Tree()])),
        (Closed, '{"name": "a"}', Closed(name="a")),
        (Pair, '[1, "a"]', Pair(1, "a")),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (Annotated[int, Field(gt=0)], "1", 1),
        (Literal[1, 2], "1", 1),
        (uuid.UUID, f'"{uuid.UUID(int=0)}"', uuid.UUID(int=0)),
        (object, "[1]", [1]),
    ],
)
def test_types_it_cannot_say_go_out_as_json_schema(shape, answer, value):
    """Maps, tuples, references to itself and such are `responseJsonSchema`; no type that pydantic takes is refused."""
    stored = config(shape)
    if shape is not object:  # anything at all: Gemini's Schema can say that
        assert "responseSchema" not in stored
        assert stored["responseJsonSchema"]
    assert read_answer(answer, shape) == value


def test_the_order_of_fields_is_kept():
    """The model answers in the order it is told, and a class has one; the document itself is sorted."""
    assert config(City)["responseSchema"]["propertyOrdering"] == ["name", "area"]
    assert config(list[Point])["responseSchema"]["$defs"]["Point"]["propertyOrdering"] == ["y", "x"]
    unsorted = {"type": "object", "properties": {"b": {"type": "object", "properties": {"z": {}, "y": {}}}, "a": {}}}
    stored = config(None, response_json_schema=unsorted)["responseJsonSchema"]
    assert stored["propertyOrdering"] == ["b", "a"]
    assert stored["properties"]["b"]["propertyOrdering"] == ["z", "y"]
    sorted_one = {"type": "object", "properties": {"a": {}, "b": {}}}
    assert config(None, response_json_schema=sorted_one)["responseJsonSchema"] == sorted_one
    assert "propertyOrdering" not in unsorted


def test_equal_types_keep_the_order_of_their_choices():
    """What was asked before does not change the question."""
    for choices in (("a", "b"), ("b", "a")):
        assert config(list[Literal[choices]])["responseSchema"]["items"]["enum"] == list(choices)


@pytest.mark.parametrize("shape", [type(print), 5, "City", [City], b"x"])
def test_what_has_no_schema_is_refused(shape):
    """At submit, and where a job is looked up with it."""
    with pytest.raises(InvalidRequest) as raised:
        config(shape)
    assert raised.value.field == "config.response_schema"
    with pytest.raises(InvalidRequest) as raised:
        shape_of(shape)
    assert raised.value.field == "response_schema"


@pytest.mark.parametrize("answer", ["", "no JSON", '{"name": 5}', '{"name": "Ro', "[" * 100_000, "5"])
def test_another_answer_is_none(answer):
    """An answer that was cut, or is of another shape, is still there as text."""
    assert read_answer(answer, City) is None


def test_a_schema_gives_decoded_json_and_nothing_gives_none():
    """Without a type there is nothing to build."""
    assert read_answer('{"a": [1]}', {"type": "object"}) == {"a": [1]}
    assert read_answer("{", {"type": "object"}) is None
    assert read_answer("{}", None) is None
    result = Result("1-a", '{"name": "Rome"}', {}, "STOP", Usage(), "live", "m", 1)
    assert with_parsed(result, City).parsed == City(name="Rome")
    assert with_parsed(result, None) is result
