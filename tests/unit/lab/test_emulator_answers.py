import json

import pytest

from genqueue_lab.emulator.answers import compose
from genqueue_lab.emulator.catalog import MODELS
from genqueue_lab.emulator.options import Pace
from genqueue_lab.emulator.requests import GenerateRequest
from genqueue_lab.emulator.samples import Sampler

FLASH = MODELS["gemini-2.5-flash"]
PACE = Pace(tokens=30, thoughts=5)


def asked(text="hello", *, system="", model=FLASH, functions=(), calling=None, pace=PACE, **config):
    """Compose the answer to one user turn."""
    request = GenerateRequest(
        contents=[{"role": "user", "parts": [{"text": text}]}],
        system_instruction={"parts": [{"text": system}]},
        config=config,
        functions=list(functions),
        calling=calling or {},
        tier="standard",
        prompt_tokens=1,
    )
    return compose(request, model, pace)


def text_of(answer, *, thoughts=False):
    """Return the words, or the thoughts, of an answer."""
    return "".join(piece.part["text"] for piece in answer.pieces if piece.thought == thoughts)


def test_the_same_question_gets_the_same_words():
    """The answer depends on the contents and the system instruction and on nothing else that varies."""
    assert text_of(asked()) == text_of(asked(temperature=0.3))
    assert len({text_of(asked()), text_of(asked("hello!")), text_of(asked(system="be brief"))}) == 3


def test_an_answer_has_as_many_words_as_tokens():
    """One word is one token, and the words read as sentences."""
    text = text_of(asked())
    assert len(text.split()) == 30
    assert text[0].isupper()
    assert ". " in text


def test_a_limit_cuts_the_answer():
    """A maxOutputTokens ends the answer with MAX_TOKENS; exactly enough is STOP."""
    cut = asked(maxOutputTokens=7)
    assert (len(cut.pieces), cut.finish_reason) == (7, "MAX_TOKENS")
    assert text_of(asked()).startswith(text_of(cut))
    assert asked(maxOutputTokens=30).finish_reason == "STOP"


def test_a_stop_sequence_ends_the_answer_before_itself():
    """The stop sequence itself is not part of the answer, even in the middle of a word."""
    whole = text_of(asked())
    stop = whole[20:24]
    stopped = asked(stopSequences=["never there", stop])
    assert text_of(stopped) == whole[: whole.index(stop)]
    assert stopped.finish_reason == "STOP"
    assert asked(stopSequences=[whole[:3]]).pieces == []


def test_thoughts_come_first_and_count():
    """Thoughts are sent only when asked for, within the budget, and count towards the limit."""
    answer = asked(thinkingConfig={"includeThoughts": True})
    assert [piece.thought for piece in answer.pieces] == [True] * 5 + [False] * 30
    assert not text_of(asked(thinkingConfig={"thinkingBudget": 4}), thoughts=True)
    assert (
        len(text_of(asked(thinkingConfig={"includeThoughts": True, "thinkingBudget": 2}), thoughts=True).split()) == 2
    )
    cut = asked(thinkingConfig={"includeThoughts": True}, maxOutputTokens=4)
    assert (len(cut.pieces), cut.finish_reason, text_of(cut)) == (4, "MAX_TOKENS", "")


def test_a_model_that_does_not_think_has_no_thoughts():
    """Asking for thoughts is nothing to gemini-2.0-flash."""
    answer = asked(model=MODELS["gemini-2.0-flash"], thinkingConfig={"includeThoughts": True})
    assert not any(piece.thought for piece in answer.pieces)


LOOK = {"name": "look", "parameters": {"type": "OBJECT", "properties": {"where": {"type": "STRING"}}}}
WAIT = {"name": "wait_for", "parametersJsonSchema": {"type": "object", "properties": {"s": {"type": "integer"}}}}


def called(answer):
    """Return the names of the called functions."""
    return [piece.part["functionCall"]["name"] for piece in answer.pieces if "functionCall" in piece.part]


@pytest.mark.parametrize(
    ("text", "calling", "names"),
    [
        ("please call look.", {}, ["look"]),
        ("Call wait_for now", {"mode": "AUTO"}, ["wait_for"]),
        ("call nobody, then call wait_for", {}, ["wait_for"]),
        ("call nobody", {}, []),
        ("hello", {}, []),
        ("call look", {"mode": "NONE"}, []),
        ("hello", {"mode": "ANY"}, ["look"]),
        ("hello", {"mode": "ANY", "allowedFunctionNames": ["wait_for"]}, ["wait_for"]),
    ],
)
def test_a_function_is_called_by_name_or_by_mode(text, calling, names):
    """The prompt "call <name>" calls a declared function; the mode can forbid or force it."""
    assert called(asked(text, functions=[LOOK, WAIT], calling=calling)) == names


def test_arguments_fit_the_declaration_and_gemini_3_signs():
    """Arguments come from the declared schema; only Gemini 3 adds a thought signature."""
    (piece,) = asked("call wait_for", functions=[WAIT]).pieces
    assert piece.part == {"functionCall": {"name": "wait_for", "args": {"s": 1}}}
    (signed,) = asked("call look", functions=[LOOK], model=MODELS["gemini-3-pro-preview"]).pieces
    assert signed.part["thoughtSignature"]


def test_json_is_answered_in_json():
    """Without a schema there is one field; with a schema the answer fits it; a limit cuts it in the middle."""
    assert json.loads(text_of(asked(responseMimeType="application/json")))["answer"]
    schema = {"type": "ARRAY", "items": {"type": "STRING", "enum": ["yes", "no"]}, "minItems": 3}
    answer = asked(responseMimeType="application/json", responseSchema=schema)
    assert json.loads(text_of(answer)) == ["yes", "yes", "yes"]
    assert text_of(asked(responseMimeType="application/json", responseSchema=schema, maxOutputTokens=1)) == '["ye'


def sample(schema):
    """Return a value for a schema, its text made of the letter w."""
    return Sampler(schema, lambda length: "w" * length).value()


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "INTEGER", "minimum": 2.5}, 3),
        ({"type": "number", "maximum": -1}, -1.0),
        ({"type": "BOOLEAN"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"const": "x"}, "x"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1),
        ({"type": "string", "maxLength": 3}, "www"),
        ({"type": "string", "minLength": 20}, "w" * 20),
        ({"type": "string", "format": "date"}, "2025-01-01"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, [1]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2}, [1, "w" * 12]),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, 0.25),
        ({"type": "integer", "multipleOf": 7, "minimum": 8}, 14),
        ({"nullable": True}, None),
        ({"properties": {"a": True}}, {"a": "w" * 12}),
        ({"items": {"$ref": "#/anyOf/0"}, "anyOf": [{"const": 2}]}, 2),
        (
            {"properties": {"b": {"type": "integer"}, "a": {"const": 0}}, "propertyOrdering": ["a", "b"]},
            {"a": 0, "b": 1},
        ),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 1),
    ],
)
def test_a_sample_fits_its_schema(schema, value):
    """Each kind of schema, OpenAPI's or JSON Schema's, gets a value that fits."""
    assert sample(schema) == value


def test_a_recursive_schema_ends():
    """A tree that refers to itself stops at a depth, with its required properties."""
    tree = {
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    }
    value = sample(tree)
    while value.get("children"):
        value = value["children"][0]
    assert value["id"] == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/nowhere/0"},
        {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 2},
        {"type": "array", "items": {"type": "null"}, "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        True,
    ],
    ids=str,
)
def test_no_schema_keeps_the_emulator_from_others(schema):
    """What has no end, or an end far off, is cut; what can have no answer gets some answer."""
    assert len(json.dumps(sample(schema))) < 200_000


GEMINI_3 = MODELS["gemini-3-pro-preview"]


def test_gemini_3_signs_the_text_its_thoughts_led_to():
    """The last text carries a signature where thoughts were asked for, and nowhere else."""
    thinking = {"includeThoughts": True}
    *others, last = asked(model=GEMINI_3, thinkingConfig=thinking).pieces
    assert last.part["thoughtSignature"]
    assert not any("thoughtSignature" in piece.part for piece in others)
    for plain in (asked(model=GEMINI_3), asked(thinkingConfig=thinking)):
        assert not any("thoughtSignature" in piece.part for piece in plain.pieces)


def test_an_image_follows_the_words_where_it_is_asked_for():
    """An answer in both modalities ends with inline data."""
    *words, image = asked(responseModalities=["TEXT", "IMAGE"]).pieces
    assert len(words) == 30
    assert image.part["inlineData"]["mimeType"] == "image/png"


def test_a_page_is_cited_when_the_prompt_says_so():
    """The citation covers the whole answer."""
    answer = asked("cite https://example.com/a, please")
    (source,) = answer.remarks["citationMetadata"]["citationSources"]
    assert (source["uri"], source["endIndex"]) == ("https://example.com/a", len(text_of(answer)))
    assert asked().remarks == {}


def test_safety_ends_an_answer_or_refuses_a_prompt():
    """Both tell their ratings: the candidate's in its last chunk, the prompt's instead of a candidate."""
    stopped = asked("please stop for safety")
    assert (stopped.finish_reason, len(stopped.pieces)) == ("SAFETY", 15)
    assert stopped.remarks["safetyRatings"][0]["blocked"]
    blocked = asked("block this prompt")
    assert (blocked.pieces, blocked.prompt_feedback["blockReason"]) == ([], "PROHIBITED_CONTENT")


@pytest.mark.parametrize(("length", "rest"), [(20, True), (0, False), (10**6, False)])
def test_an_answer_that_was_cut_off_is_continued(length, rest):
    """What is missing of it comes, and nothing twice; after a whole answer, or none, the turn is a question."""
    whole = text_of(asked("hello"))
    shown = whole[:length]
    contents = [
        {"role": "user", "parts": [{"text": "hello"}]},
        {"role": "model", "parts": [{"text": shown}]},
        {"role": "user", "parts": [{"text": "Go on."}]},
    ]
    request = GenerateRequest(contents, {"parts": [{"text": ""}]}, {}, [], {}, "standard", 1)
    answer = text_of(compose(request, FLASH, PACE))
    assert (shown + answer == whole) == rest
    assert answer
