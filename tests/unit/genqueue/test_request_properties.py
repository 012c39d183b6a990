"""Any request at all: a stable document, or an InvalidRequest that names the field; and what makes two the same."""

import base64
import copy
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genqueue.deployment import Deployment
from genqueue.errors import InvalidRequest
from genqueue.fingerprint import canonical, encode
from genqueue.intake import Candidate, Intake
from genqueue.keys import Keys
from genqueue.options import JobOptions
from genqueue.order import make_order
from genqueue.payload.codec import Codec
from genqueue.request.config import CLIENT_FIELDS, GenerationConfig
from genqueue.request.contents import contents_of
from genqueue.request.names import camel, snake
from genqueue.request.shape import read_answer
from genqueue.settings import Settings

steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)

texts = st.text(st.characters(exclude_categories=[]), max_size=8)  # lone surrogates too
clean = st.text(st.characters(codec="utf-8"), max_size=8)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    texts,
    st.binary(max_size=4),
    st.sets(st.integers(), max_size=2),
    st.builds(object),
    st.complex_numbers(),
)
keys = st.one_of(
    texts,
    st.sampled_from(
        [
            "text",
            "parts",
            "role",
            "content",
            "inline_data",
            "inlineData",
            "data",
            "mimeType",
            "functionCall",
            "args",
            "thought",
            "thought_signature",
            "type",
            "properties",
            "items",
            "anyOf",
            "$ref",
            "enum",
            "required",
            "min_items",
            "image_url",
            "tool_calls",
            "function",
        ]
    ),
    st.integers(),
    st.none(),
    st.binary(max_size=2),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
parts = st.one_of(texts, st.fixed_dictionaries({"text": texts}), values)
turns = st.fixed_dictionaries(
    {"parts": st.one_of(parts, st.lists(parts, max_size=3))},
    optional={"role": st.one_of(st.sampled_from(["user", "model"]), leaves)},
)
contents = st.one_of(values, texts, st.lists(st.one_of(parts, turns), max_size=3), turns)
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": st.sampled_from(["f", ""])}, optional={"arguments": values})},
    optional={"id": st.sampled_from(["c1", 5]), "type": st.sampled_from(["function", "custom"])},
)
content_parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "other"])},
    optional=dict.fromkeys(["text", "image_url", "input_audio", "file"], values | st.just("data:a/b;base64,AA==")),
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.one_of(st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]), leaves)},
        optional={
            "content": st.one_of(texts, st.lists(content_parts, max_size=2), values),
            "tool_calls": st.lists(calls, max_size=2) | values,
            "tool_call_id": st.sampled_from(["c1", "c2"]) | leaves,
            "name": st.sampled_from(["f"]) | leaves,
            "extra_content": values,
        },
    )
    | values,
    max_size=4,
)
schemas = st.recursive(
    st.sampled_from(["string", "INTEGER", "null", "objekt"]).map(lambda kind: {"type": kind}) | values,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(keys, inner, max_size=3)}),
        st.fixed_dictionaries({"items": inner}, optional={"minItems": leaves}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)}),
    ),
    max_leaves=5,
)
NAMES = sorted([*GenerationConfig.model_fields, *CLIENT_FIELDS, "system_instruction"])
fields = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES).map(camel), texts, keys)
configurations = st.one_of(
    values,
    st.dictionaries(fields, values, max_size=3),
    st.fixed_dictionaries({}, optional={"response_schema": schemas, "responseJsonSchema": schemas}),
    st.fixed_dictionaries({}, optional={name: values for name in NAMES if name not in CLIENT_FIELDS}),
)
options = st.fixed_dictionaries({}, optional=dict.fromkeys(JobOptions.model_fields, values))


def attempt(contents, model, options):
    """Return the document, or None where the request is refused as it should be."""
    try:
        return make_order(contents, model, options).document
    except InvalidRequest as error:
        refusal = error
    assert refusal.field
    assert str(refusal).startswith(refusal.field)
    assert "expected" in str(refusal)
    return None


def settled(document):
    """Assert that a document is canonical and says the same when it is read and submitted again."""
    if document is None:
        return
    read = json.loads(document)
    assert encode(canonical(read)) == document
    again = make_order(
        read["contents"],
        read["model"],
        {"config": read["config"], "system_instruction": read.get("system_instruction")},
    )
    assert again.document == document


@steady
@given(contents)
def test_any_contents(value):
    """Contents are accepted as a stable document, or refused by name."""
    settled(attempt(value, "m", {}))


@steady
@given(messages)
def test_any_messages(value):
    """So are OpenAI's messages."""
    settled(attempt(None, "m", {"messages": value}))


@settings(steady, max_examples=300)
@given(configurations)
def test_any_configuration(value):
    """So is the configuration."""
    settled(attempt("Hello", "m", {"config": value}))


@steady
@given(schemas, st.sampled_from(["response_schema", "response_json_schema"]))
def test_any_schema(value, name):
    """So is a schema of the answer."""
    settled(attempt("Hello", "m", {name: value}))


@steady
@given(contents)
def test_any_system_instruction(value):
    """So is the system instruction."""
    settled(attempt("Hello", "m", {"system_instruction": value}))


@steady
@given(values, options)
def test_any_model_and_options(model, options):
    """So are the model and the options."""
    attempt("Hello", model, options)


@steady
@given(
    contents,
    messages,
    configurations,
    options,
    st.dictionaries(fields.filter(lambda key: isinstance(key, str)), values, max_size=2),
)
def test_anything_together(contents, messages, config, options, keywords):
    """So is everything at once."""
    attempt(contents, "m", {"messages": messages, "config": config, **options, **keywords})


@steady
@given(texts, schemas)
def test_any_answer_is_read_or_none(text, shape):
    """Whatever a model answers, reading it into its shape raises nothing."""
    read_answer(text, shape if isinstance(shape, dict) else list[int])


@steady
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_every_sound_text_is_accepted_word_for_word(words):
    """No character is lost, joined or escaped on the way."""
    document = make_order(words, "m", {}).document
    assert json.loads(document)["contents"] == [{"role": "user", "parts": [{"text": word} for word in words]}]


@steady
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
        max_leaves=10,
    )
)
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value):
    """Equal values give equal bytes, and the bytes give the value back."""
    encoded = encode(canonical(value))
    assert json.loads(encoded) == value
    assert encode(canonical(reordered(value))) == encoded


@steady
@given(st.one_of(contents, values))
def test_contents_normalise_once(value):
    """Contents that were normalised stay as they are."""
    try:
        turns = contents_of(value)
    except InvalidRequest:
        return
    assert contents_of(copy.deepcopy(turns)) == turns


# Sound requests, of which another spelling is made.

own_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 2.0]) | clean,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(clean, inner, max_size=2),
    max_leaves=4,
)
signatures = st.binary(max_size=4).map(lambda raw: base64.b64encode(raw).decode())
sound_parts = st.one_of(
    st.fixed_dictionaries(
        {"text": clean.filter(bool)}, optional={"thought": st.sampled_from([True]), "thoughtSignature": signatures}
    ),
    st.fixed_dictionaries({"inlineData": st.fixed_dictionaries({"mimeType": st.just("a/b"), "data": signatures})}),
    st.fixed_dictionaries({"fileData": st.just({"fileUri": "gs://a", "mimeType": "a/b"})}),
    st.fixed_dictionaries(
        {
            "functionCall": st.fixed_dictionaries(
                {"name": st.just("f"), "args": st.dictionaries(clean, own_json, max_size=2)}
            )
        },
        optional={"thoughtSignature": signatures},
    ),
)
sound_turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "model"]), "parts": st.lists(sound_parts, min_size=1, max_size=3)}
)
sound_schemas = st.sampled_from(
    [{"type": "STRING", "minLength": 3}, {"type": "ARRAY", "items": {"type": "OBJECT", "properties": {"a_b": {}}}}]
)
sound_configs = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, 2]),
        "topP": st.sampled_from([0, 0.25, 1]),
        "topK": st.integers(0, 40),
        "maxOutputTokens": st.integers(1, 99),
        "stopSequences": st.lists(clean, max_size=2),
        "seed": st.integers(-5, 5),
        "thinkingConfig": st.fixed_dictionaries(
            {}, optional={"thinkingBudget": st.integers(0, 9), "includeThoughts": st.booleans()}
        ),
        "safetySettings": st.lists(st.just({"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}), max_size=1),
        "tools": st.lists(
            st.fixed_dictionaries(
                {
                    "functionDeclarations": st.lists(
                        st.fixed_dictionaries({"name": st.just("f"), "parameters": sound_schemas}), max_size=1
                    )
                }
            ),
            max_size=1,
        ),
        "responseSchema": sound_schemas,
        "labels": st.dictionaries(clean, clean, max_size=2),
        "responseLogprobs": st.booleans(),
        "mediaResolution": st.just("MEDIA_RESOLUTION_LOW"),
        "store": st.booleans(),
    },
)
#: Objects whose keys are the caller's own.
OWN = {"args", "labels", "properties"}
SPELLINGS = (camel, snake)


def reordered(value):
    """Return an equal value whose objects were filled the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def respelled(value, draw, *, own=False):
    """Return a value of the same meaning: other names, numbers, letters, kinds of list, and None for what is absent."""
    if isinstance(value, dict):
        spelled = {
            key if own else draw(st.sampled_from(SPELLINGS))(key): respelled(inner, draw, own=own or key in OWN)
            for key, inner in reversed(list(value.items()))
        }
        return spelled if own else {**spelled, "media_processing": None} if "text" in value else spelled
    if isinstance(value, list):
        return draw(st.sampled_from([list, tuple]))(respelled(item, draw, own=own) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return draw(st.sampled_from([int, float]))(value)
    return value


def identity(contents, **options):
    """Return the identity of a request, and of who shares it."""
    intake = Intake(Deployment(Keys()), Settings(_env_file=None), Codec())
    return Candidate(make_order(contents, "m", options), intake).identity


@steady
@given(st.lists(sound_turns, min_size=1, max_size=3), sound_configs, st.data())
def test_the_same_meaning_has_the_same_fingerprint(contents, config, data):
    """Order of keys, spelling of names and numbers, lists and tuples, defaults and nulls make no difference."""
    again = respelled(contents, data.draw)
    same = {**respelled(config, data.draw), "candidate_count": 1, "frequency_penalty": None, "image_config": {}}
    assert identity(contents, config=config) == identity(list(again), config=same)
    settled(make_order(again, "m", {"config": same}).document)


@steady
@given(
    st.lists(sound_turns, min_size=1, max_size=2),
    sound_configs,
    st.sampled_from(
        [
            {"tenant": "other"},
            {"residency": ["eu"]},
            {"share": "global"},
            {"share": "none"},
            {"temperature": 0.75},
            {"top_p": 0.75},
            {"seed": 7},
            {"system_instruction": "Be brief."},
            {"presence_penalty": 0.5},
            {"response_mime_type": "text/x.enum"},
            {"service_tier": "flex"},
        ]
    ),
)
def test_another_meaning_has_another_fingerprint(contents, config, change):
    """Another tenant, place, sharing or setting is another question."""
    config = {name: value for name, value in config.items() if snake(name) not in change}
    assert identity(contents, config=config) != identity(contents, config=config, **change)


@steady
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), clean.filter(bool)), min_size=1, max_size=4), clean)
def test_messages_are_the_contents_they_mean(said, instruction):
    """A conversation in OpenAI's words is the same question as in Gemini's."""
    messages = [{"role": role, "content": text} for role, text in said]
    contents = [{"role": "user" if role == "user" else "model", "parts": [{"text": text}]} for role, text in said]
    system = {"system_instruction": instruction} if instruction else {}
    first = [{"role": "system", "content": instruction}] if instruction else []
    assert identity(None, messages=[*first, *messages]) == identity(contents, **system)
