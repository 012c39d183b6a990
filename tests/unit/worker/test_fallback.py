"""A model that cannot answer gives way to the next of its chain, until something was shown."""

from dataclasses import replace

import msgspec
import pytest

from genqueue_worker import runner
from genqueue_worker.errand import Errand
from genqueue_worker.fallback import gives_way
from genqueue_worker.model_table import Entries, ModelTable
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import ProviderRequest, Route
from genqueue_worker.ways import Way, Ways

from .played_runtime import FLIGHT, GRANTED, REQUEST, WHOLE, Access, Provider

BUSY = ProviderError("UNAVAILABLE", "The model is overloaded.", 503, retryable=True, retry_after=33.0)
LATER = ProviderError("UNAVAILABLE", "Later.", 503, retryable=True)
RETIRED = ProviderError("NOT_FOUND", "models/gemini-x is not found for API version v1beta", 404)
BROKEN = ProviderError("INVALID_ARGUMENT", "No such field.", 400)
REFUSED = ProviderError("invalid_api_key", "Incorrect API key.", 401, doubts_key=True)


@pytest.mark.parametrize(
    ("status", "code", "message", "gives"),
    [
        (503, "UNAVAILABLE", "", True),
        (529, "overloaded_error", "", True),
        (500, "INTERNAL", "The model is Overloaded, try later", True),
        (500, "INTERNAL", "An internal error has occurred", False),
        (429, "RESOURCE_EXHAUSTED", "That model is currently overloaded with other requests", True),
        (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota for model gemini-x", False),
        (404, "NOT_FOUND", "models/gemini-1.0-pro is not found for API version v1beta", True),
        (404, "model_not_found", "The model `gpt-3` has been deprecated", True),
        (404, "NOT_FOUND", "Requested entity was not found.", False),
        (404, "HTTP_404", "<title>the model railway club</title>", False),
        (None, "connect_error", "overloaded", False),
    ],
)
def test_overloaded_and_retired_models_give_way(status, code, message, gives):
    """Neither a quota nor what is wrong with the request, the address or the key does."""
    assert gives_way(ProviderError(code, message, status)) == gives


@pytest.fixture
def world(runtime):
    """Return a runtime with two providers, where the model asked for has two fallbacks, one of each."""

    def make(*errors, said=(), access=None, residency=""):
        google, other = Provider(), Provider()
        further = Entries(fallbacks={"gemini-x": ("gemini-y", "gpt-z")})
        ways = {
            "gemini": Way(google, Route("gemini", "https://x", "key", region="eu"), Access()),
            "openai": Way(other, Route("openai", "https://y", "key", kind="openai"), access or Access()),
        }
        play(google, errors[:2], said)
        play(other, errors[2:], said)
        runtime.courier.replies["claim"] = [[*GRANTED[:6], REQUEST[:-1] + residency.encode() + b"}", *GRANTED[7:]]]
        return replace(runtime, ways=Ways(ModelTable(ways, further), ways)), google, other

    return make


def play(provider, errors, said):
    """Have a provider answer its requests with errors, after what is said, and then with an answer."""
    answers = iter(errors)
    whole = provider.stream

    async def stream(request, route):
        provider.error = next(answers, None)
        provider.chunks = WHOLE if provider.error is None else list(said)
        async for chunk in whole(request, route):
            yield chunk

    provider.stream = stream


def asked(*providers):
    """Return the models that were asked, by provider."""
    return [[request.model for request in provider.requests] for provider in providers]


def ended(runtime):
    """Return the outcome, the fields of its event, the result, and what is kept for the cache."""
    outcome, detail = runtime.courier.settlement()
    args = runtime.courier.calls[-1].args
    return outcome, detail, msgspec.json.decode(args[5] or b"{}"), args[6]


async def test_the_next_one_answers_in_the_same_attempt(world):
    """The end names who answered and who was asked; the answer is not kept as the asked one's."""
    runtime, google, other = world(BUSY, RETIRED)
    assert await runner.run(runtime, FLIGHT, 5) == "succeeded"
    assert asked(google, other) == [["gemini-x", "gemini-y"], ["gpt-z"]]
    outcome, detail, result, replay = ended(runtime)
    assert (outcome, detail["model"], detail["fallback_from"]) == ("succeeded", "gpt-z", "gemini-x")
    assert (result["model"], result["fallback_from"], replay) == ("gpt-z", "gemini-x", "")
    assert [entry["type"] for entry in runtime.courier.written] == ["started", "delta"]
    assert (runtime.courier.written[0]["route"], runtime.courier.written[0]["model"]) == ("gemini", "gemini-x")


async def test_an_answer_without_a_fallback_says_nothing_of_one(world):
    """And may be given again."""
    runtime, _, _ = world()
    await runner.run(runtime, FLIGHT, 5)
    _, detail, result, replay = ended(runtime)
    assert "fallback_from" not in result
    assert "fallback_from" not in detail
    assert replay


async def test_after_the_first_word_nobody_else_is_asked(world):
    """It is tried again, from the head of the chain."""
    runtime, google, other = world(BUSY, said=WHOLE[:1])
    await runner.run(runtime, FLIGHT, 5)
    assert (ended(runtime)[0], asked(google, other)) == ("retry", [["gemini-x"], []])
    await runner.run(runtime, FLIGHT, 6)
    assert asked(google, other) == [["gemini-x", "gemini-x"], []]


@pytest.mark.parametrize(
    ("errors", "outcome", "code", "message"),
    [
        ((BUSY, BROKEN, LATER), "retry", "UNAVAILABLE", f"{BUSY.message}; gemini-y: {BROKEN}; gpt-z: {LATER}"),
        ((RETIRED, BROKEN, BUSY), "retry", "UNAVAILABLE", f"{BUSY.message}; gemini-x: {RETIRED}; gemini-y: {BROKEN}"),
        ((RETIRED, BROKEN, BROKEN), "failed", "NOT_FOUND", f"{RETIRED.message}; gemini-y: {BROKEN}; gpt-z: {BROKEN}"),
        ((BROKEN,), "failed", "INVALID_ARGUMENT", BROKEN.message),
    ],
)
async def test_a_chain_without_an_answer_has_the_words_of_all(world, errors, outcome, code, message):
    """It is tried again when any of it may pass, as the first that may says."""
    runtime, _, _ = world(*errors)
    await runner.run(runtime, FLIGHT, 5)
    told, detail, _, _ = ended(runtime)
    assert (told, detail["code"], detail["message"]) == (outcome, code, message)


async def test_a_fallback_whose_provider_refuses_the_key_is_not_asked(world):
    """One that refuses it now is doubted, and the chain's own outcome stands."""
    runtime, google, other = world(BUSY, BUSY, access=Access(refusal=REFUSED))
    await runner.run(runtime, FLIGHT, 5)
    assert (ended(runtime)[0], asked(google, other)) == ("retry", [["gemini-x", "gemini-y"], []])
    access = Access(verdict="refused")
    runtime, _, other = world(BUSY, BUSY, REFUSED, access=access)
    await runner.run(runtime, FLIGHT, 5)
    assert (ended(runtime)[0], access.doubts, len(other.requests)) == ("retry", [REFUSED], 1)


async def test_a_residency_holds_for_fallbacks_too(world):
    """One that is elsewhere is left out."""
    runtime, google, other = world(BUSY, BUSY, residency=',"residency":["eu"]')
    await runner.run(runtime, FLIGHT, 5)
    assert asked(google, other) == [["gemini-x", "gemini-y"], []]


async def test_a_model_that_no_provider_serves_fails_at_once(runtime):
    """Nobody is asked, and it is no dead letter: the same job would fail again."""
    runtime.courier.replies["claim"] = [[*GRANTED[:6], REQUEST.replace(b"gemini-x", b"gpt-z"), *GRANTED[7:]]]
    await runner.run(runtime, FLIGHT, 5)
    outcome, detail, _, _ = ended(runtime)
    assert (outcome, detail["code"], detail["retryable"]) == ("failed", "unknown_model", "0")
    assert runtime.courier.written == []


def test_what_one_model_was_sent_is_not_what_the_next_one_is(world):
    """Inline data of a blob is put in its place, or named by the provider's URI, for one alone."""
    runtime, _, _ = world()
    part = {"inlineData": {"mimeType": "image/png", "blob": {}}}
    errand = Errand(runtime.ways.chain("gemini-x"), ProviderRequest("gemini-x", [{"parts": [part]}]), laden=True)
    requests = []
    for step in errand.chain:
        requests.append(errand.hand_over(step))
        del requests[-1].contents[0]["parts"][0]["inlineData"]["blob"]
    assert [request.model for request in requests] == ["gemini-x", "gemini-y", "gpt-z"]
    assert errand.request is None
