"""An answer that goes on from what was shown, and requests that nobody can send."""

from dataclasses import replace

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from genqueue_worker import runner, shown
from genqueue_worker.documents import LARGE
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Chunk, Piece
from genqueue_worker.shown import GO_ON, PAGE
from genqueue_worker.stalls import Limits, Stalls

from .played_runtime import FLIGHT, GRANTED, Access, provider_of, with_way

RESUMED = [*GRANTED[:1], 3, *GRANTED[2:11], 1, b"continue"]
#: Two attempts that were cut off, the second of which went on from the first; before, one that was discarded.
CUT_TWICE = [
    {"type": "queued"},
    {"type": "delta", "text": "Gone."},
    {"type": "restarted", "reason": "retry"},
    {"type": "delta", "text": "The "},
    {"type": "thought", "text": "Hm."},
    {"type": "delta", "text": "answer"},
    {"type": "waiting", "reason": "retry"},
    {"type": "continued", "reason": "retry"},
    {"type": "delta", "text": " is"},
    {"type": "continued", "reason": "retry"},
]


@pytest.fixture
def resumed(runtime):
    """Return a runtime whose next claim goes on from what two attempts have shown."""
    runtime.courier.replies["claim"] = [RESUMED]
    runtime.streams.data.entries = CUT_TWICE
    provider_of(runtime).chunks = [
        Chunk((Piece("delta", " yes."),)),
        Chunk(finish_reason="STOP", usage={"totalTokenCount": 4}),
    ]
    return runtime


def settled(runtime):
    """Return the result document, the fields of the terminal event, and what is kept for the cache."""
    call = runtime.courier.calls[-1]
    return msgspec.json.decode(call.args[5]), runtime.courier.settlement()[1], call.args[6]


async def test_a_resumed_attempt_goes_on_from_what_is_shown(resumed):
    """The model is given its own words; the result is the whole, and says how often it was gone on from."""
    assert await runner.run(resumed, FLIGHT, 5) == "succeeded"
    question, said, asked = provider_of(resumed).requests[0].contents
    assert question == {"role": "user", "parts": [{"text": "What?"}]}
    assert said == {"role": "model", "parts": [{"text": "The answer is"}]}
    assert asked == {"role": "user", "parts": [{"text": GO_ON}]}
    assert [entry.get("text") for entry in resumed.courier.written] == [None, " yes."]
    result, completed, replay = settled(resumed)
    assert result["text"] == "The answer is yes."
    assert result["content"] == {"role": "model", "parts": [{"text": "The answer is yes."}]}
    assert (result["continued"], completed["continued"], replay) == (2, "2", "")
    assert result["usage"]["total_tokens"] == 4


async def test_a_resumed_attempt_without_a_text_begins_at_the_beginning(resumed):
    """A thought is nothing to go on from; the answer is one like any other."""
    resumed.streams.data.entries = [CUT_TWICE[4], CUT_TWICE[7]]
    await runner.run(resumed, FLIGHT, 5)
    assert len(provider_of(resumed).requests[0].contents) == 1
    result, completed, replay = settled(resumed)
    assert "continued" not in result
    assert "continued" not in completed
    assert replay


async def test_an_attempt_that_resumes_nothing_reads_nothing(runtime):
    """The usual claim costs no read."""
    await runner.run(runtime, FLIGHT, 5)
    assert runtime.streams.data.pages == 0


async def test_a_long_text_is_read_in_pages(resumed, monkeypatch):
    """None of it twice, and an outage meanwhile is sat out."""
    monkeypatch.setattr(shown, "RETRY", 0)
    resumed.streams.data.entries = [{"type": "delta", "text": f"{n},"} for n in range(2 * PAGE + 1)]
    resumed.streams.data.failures = [RedisConnectionError("away")]
    await runner.run(resumed, FLIGHT, 5)
    assert settled(resumed)[0]["text"] == "".join(f"{n}," for n in range(2 * PAGE + 1)) + " yes."
    assert resumed.streams.data.pages == 4


async def test_a_text_that_cannot_be_opened_is_left_to_a_worker_with_the_key(resumed):
    """As a request is."""
    resumed.streams.data.entries = [{"type": "delta", "sealed": "ZQ=="}]
    await runner.run(resumed, FLIGHT, 5)
    outcome, detail = resumed.courier.settlement()
    assert (outcome, detail["code"]) == ("retry", "payload_unreadable")


@pytest.mark.parametrize(
    ("stored", "tries", "outcome"),
    [
        (b"e" * 40, 0, "retry"),
        (b"e" * 40, 2, "retry"),
        (b"e" * 40, 3, "failed"),
        (b"{", 0, "failed"),
        (b"{" * LARGE, 0, "failed"),
        (b'{"model":"m","contents":[{"parts":[{"inlineData":{"blob":"x"}}]}]}', 0, "failed"),
    ],
)
async def test_a_request_nobody_can_send_is_a_dead_letter(runtime, stored, tries, outcome):
    """At once when it is none; when no key here opens it, after some tries in which another worker may have it."""
    runtime.courier.replies["claim"] = [[*GRANTED[:6], stored, *GRANTED[7:9], tries, *GRANTED[10:]]]
    await runner.run(runtime, FLIGHT, 5)
    told, detail = runtime.courier.settlement()
    assert (told, detail["code"], detail["retryable"]) == (outcome, "payload_unreadable", "1")


async def test_a_stall_is_a_try(runtime):
    """The provider's stream is closed, and the attempt is tried again."""
    stalls = Stalls(Limits(0.02), Limits(0.02))
    for chunks, code in ((provider_of(runtime).chunks, "token_timeout"), ([], "first_token_timeout")):
        provider_of(runtime).chunks, provider_of(runtime).endless, provider_of(runtime).closed = chunks[:1], True, False
        await runner.run(replace(runtime, stalls=stalls), FLIGHT, 5)
        outcome, detail = runtime.courier.settlement()
        assert (outcome, detail["code"], provider_of(runtime).closed) == ("retry", code, True)


REFUSED = ProviderError("INVALID_ARGUMENT", "API key not valid.", 400, doubts_key=True)


@pytest.mark.parametrize(
    ("verdict", "outcome"), [("refused", "interrupted"), ("taken", "failed"), ("unknown", "retry")]
)
async def test_a_refusal_that_may_be_the_keys_is_judged_by_a_trial_of_the_key(runtime, verdict, outcome):
    """A refused key is no try of the job's, and no end; another worker takes it."""
    provider_of(runtime).chunks, provider_of(runtime).error = [], REFUSED
    await runner.run(with_way(runtime, access=Access(verdict=verdict)), FLIGHT, 5)
    assert runtime.courier.settlement()[0] == outcome


async def test_a_refusal_after_the_first_word_is_the_requests(runtime):
    """The key had been accepted."""
    provider_of(runtime).error = REFUSED
    await runner.run(with_way(runtime, access=Access(verdict="refused")), FLIGHT, 5)
    assert runtime.courier.settlement()[0] == "failed"


@pytest.mark.parametrize(("retryable", "outcome"), [(True, "interrupted"), (False, "failed")])
async def test_a_worker_whose_key_is_refused_asks_nobody(runtime, retryable, outcome):
    """What it still fetched is handed back; when no worker serves, it is a dead letter in the provider's words."""
    barred = ProviderError("INVALID_ARGUMENT", "API key not valid.", 400, retryable=retryable)
    await runner.run(with_way(runtime, access=Access(barred)), FLIGHT, 5)
    told, detail = runtime.courier.settlement()
    assert told == outcome
    assert provider_of(runtime).requests == []
    assert retryable or (detail["message"], detail["retryable"]) == ("API key not valid.", "1")
