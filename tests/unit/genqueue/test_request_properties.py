"""Any contents and any configuration: a stable document, or an InvalidRequest that names the field."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import canonical, encode
from genqueue.order import make_order
from genqueue.request import GenerationConfig, contents_of

steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)

texts = st.text(st.characters(exclude_categories=[]), max_size=8)  # lone surrogates too
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
    st.sampled_from(["text", "parts", "role", "inline_data", "inlineData", "functionCall", "thought"]),
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
fields = st.one_of(st.sampled_from(sorted(GenerationConfig.model_fields)), texts, keys)
configurations = st.one_of(values, st.dictionaries(fields, values, max_size=3))


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
    document = attempt(value, "m", {})
    if document is not None:
        settled(document)


@steady
@given(configurations)
def test_any_configuration(value):
    """So is the configuration."""
    document = attempt("Hello", "m", {"config": value})
    if document is not None:
        settled(document)


@steady
@given(contents)
def test_any_system_instruction(value):
    """So is the system instruction."""
    document = attempt("Hello", "m", {"system_instruction": value})
    if document is not None:
        settled(document)


@steady
@given(
    values, st.fixed_dictionaries({}, optional=dict.fromkeys(["lane", "tenant", "deadline", "cache", "share"], values))
)
def test_any_model_and_options(model, options):
    """So are the model and the options."""
    attempt("Hello", model, options)


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


def reordered(value):
    """Return an equal value whose objects were filled the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@steady
@given(st.one_of(contents, values))
def test_contents_normalise_once(value):
    """Contents that were normalised stay as they are."""
    try:
        turns = contents_of(value)
    except InvalidRequest:
        return
    assert contents_of(turns) == turns
