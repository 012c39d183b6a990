"""google-genai's own types in a request, and our tables held against them; the SDK itself never imports them."""

import datetime as dt
import enum
import subprocess
import sys
import types as python_types
import typing

import pydantic
import pytest
from google.genai import types

from genqueue.errors import InvalidRequest
from genqueue.order import make_order
from genqueue.request.config import CLIENT_FIELDS, GenerationConfig
from genqueue.request.names import camel
from genqueue.request.schema import KEYWORDS
from genqueue.request.spelling import BINARY, ENUMS, JSON_SCHEMAS, PART_FIELDS, PART_OBJECTS, SCHEMAS, VERBATIM

#: Fields whose annotation says less than google-genai takes.
TYPES = {"tools": types.Tool, "speech_config": types.SpeechConfig, "system_instruction": types.Content}
LOOK = types.FunctionDeclaration(
    name="look",
    parameters=types.Schema(type="OBJECT", properties={"at_what": types.Schema(type=types.Type.STRING)}),
)


def document(contents="Hello", **options):
    """Return the document of a request."""
    return make_order(contents, "m", options).document


@pytest.mark.parametrize(
    ("objects", "plain"),
    [
        (types.UserContent("Hello"), "Hello"),
        (types.Part(text="Hello"), "Hello"),
        ([types.Part.from_text(text="a"), "b"], ["a", "b"]),
        (types.ModelContent(parts=["Yes"]), [{"role": "model", "parts": ["Yes"]}]),
        ({"role": "model", "parts": types.Part(text="Yes")}, [{"role": "model", "parts": ["Yes"]}]),
        (
            types.Part.from_bytes(data=b"\xfb\xff", mime_type="image/png"),
            [{"inline_data": {"mime_type": "image/png", "data": "+/8="}}],
        ),
        (
            {"inline_data": types.Blob(data=b"\xfb\xff", mime_type="a/b")},
            [{"inlineData": {"mimeType": "a/b", "data": "-_8"}}],
        ),
        (
            types.Part.from_uri(file_uri="gs://a/b.png", mime_type="image/png"),
            [{"fileData": {"fileUri": "gs://a/b.png", "mimeType": "image/png"}}],
        ),
        (
            types.File(name="files/a", uri="https://x.test/files/a", mime_type="text/plain"),
            [{"fileData": {"fileUri": "https://x.test/files/a", "mimeType": "text/plain"}}],
        ),
        (
            types.Part(function_call=types.FunctionCall(name="f", args={"a_b": None}), thought_signature=b"\xff"),
            [{"functionCall": {"name": "f", "args": {"a_b": None}}, "thoughtSignature": "/w"}],
        ),
        (
            types.Part.from_function_response(name="f", response={"snake_key": [1.0]}),
            [{"functionResponse": {"name": "f", "response": {"snake_key": [1]}}}],
        ),
        (
            types.Part(executable_code=types.ExecutableCode(code="1", language=types.Language.PYTHON)),
            [{"executableCode": {"code": "1", "language": "python"}}],
        ),
    ],
)
def test_contents_of_theirs_are_the_same_question(objects, plain):
    """An object says what its plain form says; bytes are base64."""
    assert document(objects) == document(plain)


@pytest.mark.parametrize(
    ("objects", "plain"),
    [
        (types.GenerateContentConfig(), {}),
        (
            types.GenerateContentConfig(temperature=1, top_k=4, system_instruction="s"),
            {"temperature": 1.0, "topK": 4, "system_instruction": "s"},
        ),
        (
            {"thinking_config": types.ThinkingConfig(include_thoughts=True, thinking_level="LOW")},
            {"thinking_config": {"includeThoughts": True, "thinkingLevel": "low"}},
        ),
        (
            {"safety_settings": [types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="OFF")]},
            {"safetySettings": ({"category": "harm_category_harassment", "threshold": "off"},)},
        ),
        (
            types.GenerateContentConfig(
                tools=[types.Tool(function_declarations=[LOOK])], media_resolution="MEDIA_RESOLUTION_LOW"
            ),
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {
                                "name": "look",
                                "parameters": {"type": "object", "properties": {"at_what": {"type": "string"}}},
                            }
                        ]
                    }
                ],
                "mediaResolution": "media_resolution_low",
            },
        ),
        (
            types.GenerateContentConfig(
                automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True), candidate_count=1
            ),
            None,
        ),
        (
            types.GenerateContentConfig(response_schema=types.Schema(type="ARRAY", items=types.Schema(type="INTEGER"))),
            {"response_schema": {"type": "array", "items": {"type": "integer"}}},
        ),
        (
            types.GenerateContentConfig(response_schema=list[int]),
            {"response_schema": {"type": "array", "items": {"type": "integer"}}},
        ),
        (
            {
                "tools": [
                    types.Tool(
                        google_search=types.GoogleSearch(
                            time_range_filter=types.Interval(start_time=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
                        )
                    )
                ]
            },
            {"tools": [{"google_search": {"time_range_filter": {"start_time": "2026-01-02T00:00:00+00:00"}}}]},
        ),
    ],
)
def test_configurations_of_theirs_are_the_same_question(objects, plain):
    """Whole, or in parts; in either spelling."""
    assert document(config=objects) == document(config=plain)


def test_the_tables_of_parts_and_schemas_name_what_their_types_have():
    """What is in neither would not be spelled out, or refused."""
    kinds = {camel(name): unwrapped(info.annotation) for name, info in types.Part.model_fields.items()}
    assert set(kinds) == PART_FIELDS
    plain = {bool, str, bytes}
    objects = {name for name, kind in kinds.items() if kind not in plain and not isinstance(kind, enum.EnumType)}
    assert objects == PART_OBJECTS
    assert {camel(name) for name in types.Schema.model_fields} == KEYWORDS - {"$defs", "$ref", "const"}


@pytest.mark.parametrize("file", [types.File(), types.File(uri="https://x.test/files/a"), types.File(mime_type="a/b")])
def test_a_file_that_was_not_uploaded_is_refused(file):
    """It has no address yet."""
    with pytest.raises(InvalidRequest, match="uploaded"):
        document([file])


def test_what_a_worker_cannot_do_is_refused():
    """Functions to call, and options of a connection that is not the caller's."""
    refused = {
        "config.http_options": types.GenerateContentConfig(http_options=types.HttpOptions(timeout=1)),
        "config.tools[0]": types.GenerateContentConfig(tools=[print]),
        "config.automatic_function_calling": {"automatic_function_calling": types.AutomaticFunctionCallingConfig()},
    }
    for field, config in refused.items():
        with pytest.raises(InvalidRequest) as raised:
            document(config=config)
        assert raised.value.field == field


def test_their_package_is_not_imported():
    """Neither is it by a request with a schema."""
    code = (
        "import sys, genqueue\nfrom genqueue.order import make_order\n"
        "make_order('x', 'm', {'response_schema': list[int]})\n"
        "assert not [name for name in sys.modules if name.startswith('google')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_field_of_their_config_is_known():
    """A new version of google-genai with a further field fails here."""
    ours = {*GenerationConfig.model_fields, *CLIENT_FIELDS, "system_instruction"}
    assert set(types.GenerateContentConfig.model_fields) == ours


def unwrapped(annotation):
    """Return the one type of an optional or repeated field."""
    if typing.get_origin(annotation) in {typing.Union, python_types.UnionType}:
        annotation = next(choice for choice in typing.get_args(annotation) if choice is not type(None))
    return unwrapped(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is list else annotation


def paths_below(path, model):
    """Yield (path, type) of every field that holds no further ones."""
    for name, info in model.model_fields.items():
        kind = unwrapped(info.annotation)
        if model is types.GenerateContentConfig:
            kind = TYPES.get(name, kind)
        inner = f"{path}.{camel(name)}".removeprefix(".")
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) and kind is not types.Schema:
            if inner not in {"httpOptions", "automaticFunctionCalling", "systemInstruction"}:
                yield from paths_below(inner, kind)
        else:
            yield inner, kind


FIELDS = {**dict(paths_below("", types.GenerateContentConfig)), **dict(paths_below("contents", types.Content))}


def test_the_tables_of_spelling_name_what_their_types_have():
    """Free-form fields, schemas, enumerations and bytes are known by path or by name, and nothing else is."""

    def of(test):
        return {path for path, kind in FIELDS.items() if test(kind)}

    free = of(lambda kind: typing.get_origin(kind) is dict or kind is typing.Any)
    assert free - {"responseSchema", "responseJsonSchema"} == VERBATIM | JSON_SCHEMAS
    assert of(lambda kind: kind is types.Schema) == SCHEMAS
    binary = of(lambda kind: kind is bytes)
    assert {path.rpartition(".")[2] for path in binary if not path.endswith("inlineData.data")} == BINARY
    assert {path for path in FIELDS if path.rpartition(".")[2] in BINARY or path.endswith("inlineData.data")} == binary
    enums = of(lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum))
    names = {path.rpartition(".")[2] for path in enums} | {"modelRoutingPreference", "responseModalities"}
    assert names - {"serviceTier"} == ENUMS
    texts = {path.rpartition(".")[2] for path in of(lambda kind: kind is str)}
    assert texts & ENUMS == {"responseModalities"}
