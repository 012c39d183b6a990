"""Same meaning, same fingerprint; another meaning, another one."""

import enum
import json

import pytest

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import MAX_DEPTH, canonical, encode, fingerprint
from genqueue.intake import Candidate, Intake
from genqueue.order import make_order


class Category(str, enum.Enum):  # noqa: UP042 - a StrEnum prints its value by itself
    """A string enum of the older kind, as vendor SDKs define them."""

    HARM = "HARM_CATEGORY"


class Size(float):
    """A float of somebody else's, as numpy's are."""

    def __repr__(self):
        return "Size()"


def document(contents="What?", model="gemini-2.5-flash", **options):
    """Return the document of a request."""
    return make_order(contents, model, options).document


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"temperature": None}, {}),
        ({"config": None}, {"config": {}}),
        ({"config": {"temperature": 0.5}}, {"temperature": 0.5}),
        ({"config": {"seed": 1, "top_k": 2}}, {"config": {"top_k": 2.0, "seed": 1}}),
        ({"tools": [{"a": 1, "b": (1, 2)}]}, {"tools": [{"b": [1.0, 2], "a": 1}]}),
        ({"contents": "What?"}, {"contents": ["What?"]}),
        ({"contents": "What?"}, {"contents": {"text": "What?"}}),
        ({"contents": "What?"}, {"contents": [{"parts": "What?"}]}),
        ({"contents": "What?"}, {"contents": [{"role": "user", "parts": [{"text": "What?"}]}]}),
        (
            {"contents": [{"inline_data": {"mime_type": "a/b", "data": ""}}]},
            {"contents": [{"inlineData": {"data": "", "mimeType": "a/b"}}]},
        ),
        ({"system_instruction": "Be brief."}, {"system_instruction": [{"text": "Be brief."}]}),
        ({"system_instruction": None}, {}),
        ({"system_instruction": "Be brief."}, {"config": {"systemInstruction": "Be brief."}}),
        ({"topP": 0.5}, {"top_p": 0.5}),
        ({"model": "models/gemini-2.5-flash"}, {"model": "gemini-2.5-flash"}),
        ({"candidate_count": 1, "response_mime_type": "text/plain", "stop_sequences": []}, {}),
        ({"labels": {}, "thinking_config": {}, "tools": [], "response_logprobs": False}, {}),
        ({"automatic_function_calling": {"disable": True}, "should_return_http_response": False}, {}),
        ({"media_resolution": "media_resolution_low"}, {"media_resolution": "MEDIA_RESOLUTION_LOW"}),
        ({"service_tier": "FLEX"}, {"service_tier": "flex"}),
        ({"cached_content": "abc"}, {"cached_content": "cachedContents/abc"}),
        (
            {"speech_config": "Kore"},
            {"speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}}},
        ),
        (
            {"thinking_config": {"thinking_budget": 5.0, "thinkingLevel": None}},
            {"thinking_config": {"thinkingBudget": 5}},
        ),
        ({"contents": [{"text": "a", "thought": False}]}, {"contents": "a"}),
        (
            {"contents": [{"text": "a", "thought_signature": b"\xfb\xff"}]},
            {"contents": [{"text": "a", "thoughtSignature": "-_8"}]},
        ),
        (
            {"response_schema": {"type": "string", "min_length": "3"}},
            {"response_schema": {"type": "STRING", "minLength": 3.0}, "response_mime_type": "application/json"},
        ),
        (
            {"response_schema": {"type": ["string", "null"]}},
            {"response_schema": {"type": "STRING", "nullable": True}},
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
            {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]},
        ),
    ],
)
def test_spellings_of_one_meaning_are_one_document(one, other):
    """Key order, number types, defaults and shorthand make no difference."""
    assert document(**one) == document(**other)


def test_every_difference_in_meaning_shows():
    """No two of these questions may share an answer."""
    documents = [
        document(),
        document("What? "),
        document(["What", "?"]),
        document([{"role": "model", "parts": ["What?"]}]),
        document(model="gemini-2.5-pro"),
        document(temperature=0),
        document(temperature=0.1),
        document(system_instruction="What?"),
        document(tools=[{"x": True}]),
        document(tools=[{"x": 1}]),
        document(tools=[{"x": "1"}]),
        document(tools=[{}]),
        document(tools=[{"google_search": {}}]),
        document(response_schema={"type": "string"}),
        document(response_json_schema={"type": "string"}),
        document(response_schema={"type": "object", "properties": {"a": {}, "b": {}}}),
        document(response_schema={"type": "object", "properties": {"b": {}, "a": {}}}),
        document(response_json_schema={"type": "object", "properties": {"a": {}, "b": {}}}),
        document(response_json_schema={"type": "object", "properties": {"b": {}, "a": {}}}),
        document(residency=["eu"]),
        document(residency=["eu", "us"]),
        document([{"functionCall": {"name": "f", "args": {"a_b": 1}}}]),
        document([{"functionCall": {"name": "f", "args": {"aB": 1}}}]),
        document([{"functionCall": {"name": "f", "args": {"aB": None}}}]),
    ]
    assert len(set(documents)) == len(documents)


def test_the_scope_is_part_of_the_identity():
    """Tenants never meet, and scope and request cannot be shifted into one another."""
    made = [
        fingerprint(b"ab", scope="tenant:a"),
        fingerprint(b"ab", scope="tenant:b"),
        fingerprint(b"ab", scope="global"),
        fingerprint(b"b", scope="tenant:aa"),
    ]
    assert len(set(made)) == len(made)
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in made)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (1, "1"), (1.0, "1"), (-0.0, "0"), (0.5, "0.5"), (1e16, "1" + 16 * "0"), (1e300, "1e+300")],
)
def test_numbers_and_truth(value, text):
    """Integral floats are integers; true is not 1."""
    assert encode(canonical(value)).decode() == text


def test_foreign_kinds_of_text_and_number_count_by_value():
    """A string enum is its value and not its name; a float's own repr is not asked."""
    assert (
        encode(canonical([Category.HARM, {Category.HARM: 1}, Size(0.5)]))
        == b'["HARM_CATEGORY",{"HARM_CATEGORY":1},0.5]'
    )
    assert type(canonical(Category.HARM)) is str


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), "x[0].a"),
        (float("-inf"), "x[0].a"),
        ("\ud800", "x[0].a"),
        ({1, 2}, "x[0].a"),
        (b"a", "x[0].a"),
        (object(), "x[0].a"),
        ({1: 2}, "x[0].a"),
        ({"\udfff": 1}, "x[0].a"),
        (2**64, "x[0].a"),
        (-(2**63) - 1, "x[0].a"),
        pytest.param(10**5000, "x[0].a", id="5000 digits"),
    ],
)
def test_what_is_not_json_is_refused_with_its_path(value, path):
    """The caller learns which of many values it was."""
    with pytest.raises(InvalidRequest) as raised:
        canonical([{"a": value}], "x")
    assert raised.value.field == path


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63)])
def test_integers_of_64_bits_are_kept_exactly(value):
    """What every JSON reader can hold goes through as it is."""
    assert json.loads(encode(canonical(value))) == value


def test_nesting_has_a_limit_far_below_the_stack():
    """At the limit it goes through, one deeper it does not, ten thousand deeper neither."""
    for depth, allowed in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False), (10_000, False)):
        value = 1
        for _ in range(depth):
            value = [value]
        if allowed:
            assert encode(canonical(value)).count(b"[") == depth
        else:
            with pytest.raises(InvalidRequest, match=f"nested at most {MAX_DEPTH} deep") as raised:
                canonical(value)
            assert raised.value.field.startswith("request")


def test_only_sharing_requests_have_a_fingerprint():
    """`share` decides who meets whom: a tenant, everybody, nobody."""
    from genqueue.deployment import Deployment
    from genqueue.keys import Keys
    from genqueue.payload.codec import Codec
    from genqueue.reservation import Reservation
    from genqueue.settings import Settings

    deployment = Deployment(Keys())

    def submission(**options):
        candidate = Candidate(make_order("What?", "m", options), Intake(deployment, Settings(), Codec()))
        candidate.take(Reservation(candidate.job, 1, 1, candidate.identity))
        return candidate.submission

    assert submission(tenant="a").fingerprint == submission(tenant="a").fingerprint
    assert submission(tenant="a").fingerprint != submission(tenant="b").fingerprint
    assert submission(tenant="a", share="global").fingerprint == submission(tenant="b", share="global").fingerprint
    assert submission(share="none").fingerprint == ""
    ids = submission(tenant="a")
    assert Keys().partition_of_id(ids.job) == Keys().partition_of_id(ids.flight)
    assert Keys().partition_of_id(ids.job) == Keys().partition_of_fingerprint(ids.fingerprint)
