"""google-genai builds the request for the same input; ours, spelled by our SDK and built by the worker, says the same.

For the Developer API and for Vertex AI alike.

Its types say which fields there are: every one is tried alone, and many together. The two bodies differ in the spelling
of nested names, and in what means the same as leaving it out, so they are compared without that, and twice: as
google-genai's types read them, and value by value.
"""

import asyncio
import copy
import datetime as dt
import enum
import json
import re
import types as python_types
import typing
from collections import Counter

import httpx
import pydantic
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from genqueue.request.config import CLIENT_FIELDS
from genqueue.request.document import build_request
from genqueue.request.names import camel
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_fields import DEVELOPER, VERTEX
from genqueue_worker.providers.gemini_request import encode_body
from genqueue_worker.providers.seam import decode_request
from genqueue_worker.providers.vertex import encode_vertex_body, vertex_route

MODEL = "gemini-3-pro-preview"
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
ROUTE = vertex_route("p", "europe-west4")
ANSWER = b'data: {"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}\r\n\r\n'

#: Fields whose annotation says less than the SDK takes.
TYPES = {"tools": list[types.Tool], "speech_config": types.SpeechConfig, "system_instruction": types.Content}
ENDS = {
    bool: st.booleans(),
    int: st.integers(-3, 3),
    float: st.sampled_from([0.0, 0.5, 1.0, -2.25]),
    str: st.sampled_from(["", "a", "snake_case", "é\u2028"]),
    bytes: st.sampled_from(["", "AQI=", "-_8A"]),
    dt.datetime: st.just("2026-01-02T03:04:05+00:00"),
}
#: Values of fields that our SDK holds to Gemini's ranges.
RANGES = {
    "temperature": st.sampled_from([0, 0.5, 2.0]),
    "topP": st.sampled_from([0.0, 0.5, 1]),
    "topK": st.sampled_from([0, 0.5, 40.0]),
    "candidateCount": st.just(1),
    "maxOutputTokens": st.integers(1, 9),
    "logprobs": st.integers(0, 20),
    "presencePenalty": st.sampled_from([-2, 0.5]),
    "frequencyPenalty": st.sampled_from([-2, 0.5]),
    "responseModalities": st.sampled_from(["TEXT", "IMAGE"]),
    "responseMimeType": st.sampled_from(["application/json", "text/x.enum"]),
    "cachedContent": st.sampled_from(["a", "cachedContents/a"]),
    "contents.role": st.sampled_from(["user", "model"]),
}
OBJECTS = st.dictionaries(
    st.sampled_from(["snake_key", "camelKey", "x"]), st.sampled_from([1, "v", [2], {"in_ner": 0}])
)
STRINGS = st.dictionaries(st.sampled_from(["snake_key", "camelKey", "x"]), st.just("v"))
JSON_SCHEMAS = st.sampled_from(
    [
        {"type": "object", "properties": {"a_b": {"type": "string", "max_length": 3}, "c": {"type": "integer"}}},
        {"type": "ARRAY", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "min_items": 1},
        {"type": "string", "enum": ["x_y", "z"], "title": "T", "description": "d"},
        {"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}], "nullable": True},
    ]
)
#: Refers to itself, as a pydantic model of a linked list does.
NODE = {
    "type": "object",
    "title": "Node",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}, "value": {"type": "integer"}},
}
ANY_OF = st.sampled_from(["anyOf", "any_of"])
SCHEMA_ENDS = JSON_SCHEMAS | st.sampled_from(
    [{"$ref": "#/$defs/Node"}, {"type": "null"}, {"const": "k", "type": "string"}, {"type": "boolean", "default": None}]
)
LOST_IN_OPTIONALS = {"anyOf", "any_of", "property_ordering"}
RESPONSE_SCHEMAS = st.recursive(
    SCHEMA_ENDS,
    lambda inner: st.one_of(
        st.builds(
            lambda properties, key: {"type": "object", "properties": properties, key: ["own_name"]},
            st.dictionaries(st.sampled_from(["own_name", "b", "c"]), inner, max_size=3),
            st.sampled_from(["required", "property_ordering"]),
        ),
        st.builds(lambda item: {"type": "array", "items": item}, inner),
        # Of an optional value the SDK loses the choices within and the order its caller gave; ours keeps both.
        st.builds(
            lambda key, item: {key: [item, {"type": "null"}], "title": "T"},
            ANY_OF,
            inner.filter(lambda schema: not schema.keys() & LOST_IN_OPTIONALS and schema.get("type") != "null"),
        ),
        st.builds(lambda key, item: {key: [{"type": "string"}, item, {"type": "integer"}]}, ANY_OF, inner),
    ),
    max_leaves=6,
)
# A dict that stands in two places is reduced in one only by the SDK; in a request as it is written there is none.
RESPONSE_SCHEMAS = RESPONSE_SCHEMAS.map(lambda schema: json.loads(json.dumps({**schema, "$defs": {"Node": NODE}})))


#: What steers google-genai's own client, which our SDK refuses.
OUR_OWN_MATTER = {camel(name) for name in CLIENT_FIELDS}


class Sdk:
    """google-genai with its wire tapped, before one of the surfaces."""

    def __init__(self, surface):
        self.surface = surface
        self._runner = asyncio.Runner()
        self._bodies = []
        self._http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        options = types.HttpOptions(httpx_async_client=self._http, base_url="https://gemini.test")
        access = {"api_key": "k"}
        if surface is VERTEX:
            where = {"project": ROUTE.project, "location": ROUTE.location}
            access = {"vertexai": True, **where, "credentials": Credentials("t")}
        self._client = genai.Client(http_options=options, **access)

    def _answer(self, request):
        self._bodies.append(json.loads(request.content))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=ANSWER)

    def body(self, contents, config):
        """Return the body the SDK sends."""
        if self.surface is VERTEX and config is not None:
            # It streams arguments only to callers that call functions themselves, as ours do.
            config = {**config, "automatic_function_calling": {"disable": True}}
        self._runner.run(self._call(contents, config))
        return self._bodies.pop()

    async def _call(self, contents, config):
        stream = await self._client.aio.models.generate_content_stream(model=MODEL, contents=contents, config=config)
        async for _ in stream:
            pass

    def close(self):
        """Close the SDK's client and the loop it ran on."""
        self._runner.run(self._http.aclose())
        self._runner.run(self._client.aio.aclose())
        self._runner.close()


@pytest.fixture(scope="module", params=[DEVELOPER, VERTEX], ids=lambda surface: surface.prefix)
def sdk(request):
    """One SDK client for all bodies of a surface."""
    client = Sdk(request.param)
    yield client
    client.close()


def unwrapped(annotation):
    """Return the one type of an optional field, and whether it comes as a list."""
    if typing.get_origin(annotation) in {typing.Union, python_types.UnionType}:
        annotation = next(choice for choice in typing.get_args(annotation) if choice is not type(None))
    if typing.get_origin(annotation) is list:
        inner, _ = unwrapped(typing.get_args(annotation)[0])
        return inner, True
    return annotation, False


def is_model(kind):
    """Say whether a field holds fields of its own."""
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def fields_of(model):
    """Yield (snake_case name, type, is a list) of every field of one of the SDK's types."""
    for name, info in model.model_fields.items():
        kind, many = unwrapped(
            TYPES.get(name, info.annotation) if model is types.GenerateContentConfig else info.annotation
        )
        yield name, kind, many


#: Values of fields that hold what their type does not say.
GIVEN = {**RANGES, "responseSchema": RESPONSE_SCHEMAS}


def values_of(path, kind, surface):
    """Return a strategy for the values of a field, in the spelling a caller may use."""
    if path in GIVEN:
        return GIVEN[path]
    if kind is types.Schema:
        return JSON_SCHEMAS
    if is_model(kind):
        return models("contents" if path == "systemInstruction" else path, kind, surface)
    if typing.get_origin(kind) is typing.Literal:
        return st.sampled_from(typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from([member.value for member in kind][:3])
    return ENDS.get(kind, STRINGS if kind == dict[str, str] else OBJECTS)


def models(path, model, surface):
    """Return a strategy for the fields below `path`; names come in snake_case or camelCase."""
    fields = {}
    for name, kind, many in fields_of(model):
        inner = f"{path}.{to_camel(name)}".removeprefix(".")
        if inner not in surface.refused and inner not in OUR_OWN_MATTER:
            values = values_of(inner, kind, surface)
            fields[name] = st.lists(values, max_size=2) if many else values
    few = st.dictionaries(st.sampled_from(sorted(fields)), st.booleans(), max_size=4) if fields else st.just({})
    return few.flatmap(
        lambda chosen: st.fixed_dictionaries({to_camel(n) if camel else n: fields[n] for n, camel in chosen.items()})
    )


def paths_below(path, model):
    """Yield (path, a value with that field alone) for every field below `path` that the SDK's types have."""
    for name, kind, many in fields_of(model):
        inner = f"{path}.{to_camel(name)}".removeprefix(".")
        if is_model(kind) and kind is not types.Schema and inner != "httpOptions":
            samples = dict(paths_below(inner, kind)) or {inner: {}}
        else:
            samples = {inner: smallest(inner, kind)}
        for leaf, value in samples.items():
            yield leaf, {name: [value] if many else value}


def smallest(path, kind):
    """Return one value of a field."""
    if path == "responseSchema" or kind is types.Schema:
        return {"type": "string"}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind)).value
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)[0]
    if path == "httpOptions":
        return {"timeout": 1000}
    if path in RANGES:
        return {"responseMimeType": "application/json", "responseModalities": "TEXT", "cachedContent": "a"}.get(path, 1)
    ends = {bool: True, int: 1, float: 0.5, str: "text", bytes: "AQI=", dt.datetime: "2026-01-02T03:04:05+00:00"}
    return ends.get(kind, {"own_key": 1} if path not in HEADERS else {"own_key": "v"})


HEADERS = {"labels", "tools.mcpServers.streamableHttpTransport.headers"}
CONFIG_FIELDS = {
    path: value
    for path, value in paths_below("", types.GenerateContentConfig)
    if not path.startswith("systemInstruction.")  # a content like others: see PART_FIELDS
}
PART_FIELDS = dict(paths_below("contents.parts", types.Part))


def without_defaults(body):
    """Return google-genai's body without what means the same as leaving it out, and with what our SDK adds."""
    nothing = [[], {}]
    generation = {
        name: value
        for name, value in body.get("generationConfig", {}).items()
        if (value not in nothing or name in {"responseSchema", "responseJsonSchema"})
        and (name, value) not in [("candidateCount", 1), ("responseLogprobs", False)]
        and (name, value) not in [("enableEnhancedCivicAnswers", False), ("audioTimestamp", False)]
    }
    if generation.keys() & {"responseSchema", "responseJsonSchema"}:
        generation.setdefault("responseMimeType", "application/json")
    rest = {name: value for name, value in body.items() if value not in nothing}
    for content in [*rest["contents"], *([rest["systemInstruction"]] if "systemInstruction" in rest else ())]:
        content["parts"] = [
            {name: value for name, value in part.items() if (name, value) != ("thought", False)}
            for part in content["parts"]
        ]
    rest.get("systemInstruction", {}).pop("role", None)
    for content in rest["contents"]:
        content.setdefault("role", "user")
    rest.pop("generationConfig", None)
    # Of a config that says nothing, google-genai sends an empty generationConfig.
    return {**rest, "generationConfig": generation} if generation else rest


#: Fields that Vertex AI has under another name than the config.
RENAMED = {"modelConfig": "modelSelectionConfig", "outputConfig": "generationOutputConfig"}


def canonical(body):
    """Return a body as google-genai's types read it, under the names it has at the first two levels."""
    generation = dict(body.get("generationConfig", {}))
    schema = generation.pop("responseSchema", None)
    rest = {name: value for name, value in body.items() if name not in {"contents", "generationConfig"}}
    named = {RENAMED.get(name, name): value for name, value in {**generation, **rest}.items()}
    config = types.GenerateContentConfig.model_validate(named)
    return {
        "names": (sorted(body), sorted(generation)),
        "contents": [
            types.Content.model_validate(content).model_dump(exclude_none=True) for content in body["contents"]
        ],
        "config": config.model_dump(exclude_none=True),
        "schema": None if schema is None else types.Schema.model_validate(schema).model_dump(exclude_none=True),
    }


def leaves(value):
    """Count the values of a body that hold no others; base64 in either alphabet is one."""
    if isinstance(value, dict | list):
        return sum((leaves(item) for item in (value.values() if isinstance(value, dict) else value)), Counter())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Counter([str(float(value))])
    return Counter([str(value).replace("+", "-").replace("/", "_").rstrip("=")])


def ours(surface, contents, config, instruction=None):
    """Return the body of our own: spelled by the SDK, stored, read and built by the worker."""
    built = build_request(contents, model=MODEL, system_instruction=instruction, config=config)
    request = decode_request(built.encode())
    return json.loads(encode_vertex_body(request, ROUTE) if surface is VERTEX else encode_body(request))


def assert_same(sdk, contents, config):
    """Compare the two bodies for one input."""
    # The SDK works on its caller's schema: each gets one of its own.
    theirs, own = (
        without_defaults(sdk.body(contents, copy.deepcopy(config))),
        ours(sdk.surface, contents, copy.deepcopy(config)),
    )
    assert canonical(own) == canonical(theirs)
    assert leaves(own) == leaves(theirs)


def is_refused(path, surface):
    """Say whether the tables refuse a path or one above it."""
    names = path.split(".")
    return any(".".join(names[:length]) in surface.refused for length in range(1, len(names) + 1))


def assert_refused(sdk, path, contents, config):
    """Check that both sides refuse, and that ours names the field."""
    reasons = r"only supported in|not compatible with automatic function calling|'mcp' package is required"
    with pytest.raises((ValueError, ImportError), match=reasons):
        sdk.body(contents, config)
    with pytest.raises(ProviderError) as refused:
        ours(sdk.surface, contents, config)
    assert refused.value.code == "unsupported"
    assert sdk.surface.other in refused.value.message
    assert not refused.value.retryable
    field = re.search(r"takes no (\S+);", refused.value.message).group(1)
    assert path.startswith(field)


@pytest.mark.parametrize("path", sorted(path for path in CONFIG_FIELDS if path.split(".")[0] not in OUR_OWN_MATTER))
def test_each_config_field_alone_is_sent_or_refused_as_the_sdk_does(sdk, path):
    """A field of the config goes where the SDK puts it, and is refused when the SDK refuses it."""
    if is_refused(path, sdk.surface):
        assert_refused(sdk, path, CONTENTS, CONFIG_FIELDS[path])
    else:
        assert_same(sdk, CONTENTS, CONFIG_FIELDS[path])


@pytest.mark.parametrize("path", sorted(PART_FIELDS))
def test_each_field_of_a_part_alone_is_sent_or_refused_as_the_sdk_does(sdk, path):
    """A field of a part keeps its place and its value, and is refused when the SDK refuses it."""
    content = {"parts": [PART_FIELDS[path]]}
    if is_refused(path, sdk.surface):
        assert_refused(sdk, path, [content], {})
    else:
        assert_same(sdk, [content], {"seed": 1})


def sound(content):
    """Return a content that our SDK takes: with parts, each of which says something."""
    parts = [part for part in content.get("parts", ()) if any(name != "thought" for name in part)]
    return {**content, "parts": [part if part != {"text": ""} else {"text": "x"} for part in parts] or [{"text": "x"}]}


def sound_config(config):
    """Return a config that our SDK takes: with one schema of the answer, and an instruction that says something."""
    schemas = [name for name in config if "chema" in name]
    config = {name: value for name, value in config.items() if name not in schemas[1:]}
    for name in config.keys() & {"image_config", "imageConfig"}:
        # Options given as a whole beside one of them in its short form: the SDK cannot put them together.
        whole = config[name].keys() & {"image_output_options", "imageOutputOptions"}
        if any("utput" in option for option in config[name].keys() - whole):
            config[name] = {option: value for option, value in config[name].items() if option not in whole}
    for name in config.keys() & {"system_instruction", "systemInstruction"}:
        config[name] = sound(config[name])
    return config


MIXTURES = {
    surface.prefix: (models("", types.GenerateContentConfig, surface), models("contents", types.Content, surface))
    for surface in (DEVELOPER, VERTEX)
}


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_mixture_of_fields_makes_the_body_the_sdk_makes(sdk, data):
    """Many fields together, in either spelling, make the SDK's body."""
    config, content = (data.draw(strategy) for strategy in MIXTURES[sdk.surface.prefix])
    assert_same(sdk, [sound(content), *CONTENTS], sound_config(config))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schema=RESPONSE_SCHEMAS)
def test_a_response_schema_is_reduced_as_the_sdk_reduces_it(sdk, schema):
    """References, null types, constants and the order of properties come out as the SDK's."""
    assert_same(sdk, CONTENTS, {"response_schema": schema, "response_mime_type": "application/json"})


def test_an_empty_config_sends_no_generation_config(sdk):
    """Without a config there is no generationConfig, as with the SDK."""
    assert ours(sdk.surface, CONTENTS, {}) == sdk.body(CONTENTS, None)
    assert ours(sdk.surface, CONTENTS, None) == sdk.body(CONTENTS, None)


def test_the_requests_own_system_instruction_is_the_configs(sdk):
    """The instruction of the request goes where the SDK puts the config's."""
    instruction = {"parts": [{"text": "be brief"}]}
    assert ours(sdk.surface, CONTENTS, {}, instruction) == without_defaults(
        sdk.body(CONTENTS, {"system_instruction": instruction})
    )


def test_enumerations_and_short_forms_are_completed_as_the_sdk_completes_them(sdk):
    """Lower-case names of enumerations, a bare voice, a bare cache name and a bare instruction are spelled out."""
    config = {
        "speech_config": "Kore",
        "cached_content": "abc",
        "system_instruction": "be brief",
        "service_tier": "FLEX",
        "media_resolution": "media_resolution_low",
        "safety_settings": [{"category": "harm_category_hate_speech", "threshold": "block_none"}],
        "tool_config": {"function_calling_config": {"mode": "any"}},
    }
    assert_same(sdk, CONTENTS, config)


@pytest.mark.parametrize("surface", [DEVELOPER, VERTEX], ids=lambda surface: surface.prefix)
def test_the_tables_name_what_the_sdk_has(surface):
    """Every field of the SDK's config is in exactly one table; free-form fields and enumerations are known."""
    fields = [to_camel(name) for name in types.GenerateContentConfig.model_fields]
    refused = [path for path in surface.refused if "." not in path]
    ours_alone = [*OUR_OWN_MATTER, "systemInstruction"]
    assert sorted(fields) == sorted([*surface.generation, *surface.top_level, *ours_alone, *refused])
