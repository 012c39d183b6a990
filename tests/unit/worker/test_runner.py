"""The run path of one message: what each turn of events comes to."""

import asyncio
import re
from dataclasses import replace

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from genqueue import ledger
from genqueue.ledger import Publication
from genqueue_worker import cancellation, runner
from genqueue_worker.cancellation import Cancellation
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Chunk

from .played_runtime import FLIGHT, GRANTED, REQUEST, WHOLE, Access, provider_of, way_of, with_way


@pytest.fixture
def cancelled(monkeypatch):
    """Start a run, cut it off while the provider speaks, for a reason, and return the task."""

    async def cut(runtime, reason):
        provider_of(runtime).endless = True
        marker = Cancellation()
        marker.reason = reason
        token = cancellation.current.set(marker)
        try:
            task = asyncio.ensure_future(runner.run(runtime, FLIGHT, 5))
        finally:
            cancellation.current.reset(token)
        await provider_of(runtime).speaking.wait()
        task.cancel()
        return task

    return cut


async def test_an_answer_is_streamed_settled_and_let_go(runtime):
    """The stream begins with `started`, and nothing is held when all is over."""
    assert await runner.run(runtime, FLIGHT, 5) == "succeeded"
    assert [entry["type"] for entry in runtime.courier.written] == ["started", "delta"]
    assert re.fullmatch("[0-9a-f]{8}", runtime.courier.written[0]["run"])
    outcome, detail = runtime.courier.settlement()
    assert (outcome, detail["finish_reason"], detail["source"]) == ("succeeded", "STOP", "live")
    assert msgspec.json.decode(detail["usage"])["total_tokens"] == 4
    result = msgspec.json.decode(runtime.courier.calls[-1].args[5])
    assert (result["text"], result["attempts"], result["model"]) == ("Yes.", 1, "gemini-x")
    assert result["timings"]["queued"] == 2.0
    assert len(runtime.leases) == 0
    assert provider_of(runtime).closed


@pytest.mark.parametrize("reason", [b"gone", b"done", b"leased", b"spent", b"notyet", b"late"])
async def test_a_refused_claim_runs_nothing(runtime, reason):
    """The message was of another time; the provider is not asked."""
    runtime.courier.replies["claim"] = [[reason]]
    assert await runner.run(runtime, FLIGHT, 5) == reason.decode()
    assert [call.script.name for call in runtime.courier.calls] == ["claim"]
    assert runtime.courier.written == []


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (ProviderError("INVALID_ARGUMENT", "No."), "failed", "INVALID_ARGUMENT"),
        (ProviderError("UNAVAILABLE", "Later.", 503, retryable=True), "retry", "UNAVAILABLE"),
        (ValueError("ours"), "retry", "internal_error"),
    ],
)
async def test_an_error_is_settled_by_its_kind(runtime, error, outcome, code):
    """The provider's word is final where asking again would not help; a fault of ours costs a try, not the flight."""
    provider_of(runtime).error = error
    runtime.courier.replies["settle"] = [[b"waiting", b"", b"", b""]]
    await runner.run(runtime, FLIGHT, 5)
    told, detail = runtime.courier.settlement()
    assert (told, detail["code"]) == (outcome, code)
    assert "ours" not in detail["message"]
    assert provider_of(runtime).closed


async def test_a_retry_waits_as_long_as_the_provider_told(runtime):
    """In ms, and a little longer."""
    provider_of(runtime).error = ProviderError("BUSY", "Later.", 429, retryable=True, retry_after=33.0)
    await runner.run(runtime, FLIGHT, 5)
    assert 33_000 <= runtime.courier.calls[-1].args[4] <= 36_300


async def test_a_blocked_prompt_fails(runtime):
    """With the provider's reason."""
    provider_of(runtime).chunks = [Chunk(block_reason="SAFETY")]
    await runner.run(runtime, FLIGHT, 5)
    outcome, detail = runtime.courier.settlement()
    assert (outcome, detail["code"], detail["retryable"]) == ("failed", "prompt_blocked", "0")
    assert "SAFETY" in detail["message"]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (cancellation.SHUTDOWN, "interrupted"),
        (cancellation.REVOKED, "cancelled"),
        (cancellation.SOFT_LIMIT, "failed"),
        (cancellation.HARD_LIMIT, "failed"),
        (None, "interrupted"),
    ],
)
async def test_a_cut_is_settled_before_it_goes_on(runtime, cancelled, reason, outcome):
    """By its reason; the cancellation then reaches Celery's side as it was."""
    task = await cancelled(runtime, reason)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runtime.courier.settlement()[0] == outcome
    assert provider_of(runtime).closed
    assert len(runtime.leases) == 0


async def test_a_refused_attempt_settles_nothing_and_ends_in_peace(runtime):
    """The token is void, so nothing is told; for Celery the task is done, not cancelled."""
    provider_of(runtime).endless = True
    task = asyncio.ensure_future(runner.run(runtime, FLIGHT, 5))
    await provider_of(runtime).speaking.wait()
    (attempt,) = runtime.leases._held.values()
    attempt.refuse()
    assert await task == "refused"
    assert task.cancelling() == 0
    assert [call.script.name for call in runtime.courier.calls] == ["claim"]
    assert provider_of(runtime).closed


async def test_a_shutdown_does_not_throw_away_an_answer(runtime):
    """What was paid for is settled through the cancellation that comes meanwhile."""
    asked, may_answer = asyncio.Event(), asyncio.Event()
    answer = runtime.courier.ask

    async def slowly(call):
        if call.script.name == "settle":
            asked.set()
            await may_answer.wait()
        return await answer(call)

    runtime.courier.ask = slowly
    task = asyncio.ensure_future(runner.run(runtime, FLIGHT, 5))
    await asked.wait()
    task.cancel()
    may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runtime.courier.settlement()[0] == "succeeded"


async def test_a_gap_at_the_end_is_filled(runtime):
    """The settlement is sent again with what the server lacks."""
    runtime.courier.replies["settle"] = [[b"gap", b"1", b"", b""], [b"succeeded", b"", b"", b""]]
    assert await runner.run(runtime, FLIGHT, 5) == "succeeded"
    first_numbers = [call.args[8 + call.args[7]] for call in runtime.courier.calls if call.script.name == "settle"]
    assert first_numbers == [1, 2]


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        ([[b"ok", 2], [b"ok", 4]], [("append", 1, 2), ("append", 3, 2), ("settle", 5, 1)]),
        ([[b"gap", 0], [b"ok", 4]], [("append", 1, 2), ("append", 1, 2), ("settle", 5, 1)]),
        ([[b"refused", 0]], [("append", 1, 2), ("settle", 1, 0)]),
    ],
)
async def test_more_last_words_than_one_call_carries_go_before_the_settlement(runtime, monkeypatch, replies, told):
    """Slice by slice, from where the server stands; a void token is left to the settlement to tell."""
    monkeypatch.setattr("genqueue.ledger.entries.SLICE_COUNT", 2)
    provider_of(runtime).chunks = [*WHOLE[:1] * 4, WHOLE[1]]
    runtime.courier.replies["append"] = replies
    assert await runner.run(runtime, FLIGHT, 5) == "succeeded"
    found = [
        (call.script.name, *(call.args[3:5] if call.script.name == "append" else call.args[8 + call.args[7] :][:2]))
        for call in runtime.courier.calls[1:]
    ]
    assert found == told


async def test_what_comes_again_is_published(runtime):
    """With the queue and the stamp the ledger chose."""
    runtime.courier.replies["settle"] = [[b"queued", b"", b"generate.low.again", b"9"]]
    assert await runner.run(runtime, FLIGHT, 5) == "queued"
    assert runtime.sweeper.published == [Publication(FLIGHT, "generate.low.again", 9)]


async def test_an_outage_is_sat_out(runtime):
    """At the claim and at the settlement, with the same call: the ledger knows a repetition."""
    away = RedisConnectionError("away")
    runtime.courier.replies = {"claim": [away, GRANTED], "settle": [away, away, [b"already", b"succeeded", b"", b""]]}
    assert await runner.run(runtime, FLIGHT, 5) == "already"
    assert [call.script.name for call in runtime.courier.calls] == ["claim"] * 2 + ["settle"] * 3
    assert runtime.courier.calls[0] == runtime.courier.calls[1]


async def test_a_long_outage_ends_the_run(runtime, monkeypatch):
    """The flight is left to the sweep."""
    monkeypatch.setattr(runner, "CLAIM_PATIENCE", 0.0)
    runtime.courier.replies["claim"] = [RedisConnectionError("away")]
    with pytest.raises(RedisConnectionError):
        await runner.run(runtime, FLIGHT, 5)


async def test_a_claim_carries_all_the_ledger_asks_for(runtime, keys):
    """A token of its own each time, the message's stamp, the inbox and the leases."""
    await runner.run(runtime, FLIGHT, 5)
    await runner.run(runtime, FLIGHT, 6)
    claims = [call for call in runtime.courier.calls if call.script.name == "claim"]
    tokens = [call.args[2] for call in claims]
    assert len(set(tokens)) == 2
    wish = ledger.Claim(FLIGHT, tokens[0], 5, "inbox", runtime.leases.lengths)
    assert claims[0] == ledger.claim(keys, wish)


@pytest.mark.parametrize("answer", [[b"queued", b"", b"generate.low.again", b"9"], [b"refused", b"", b"", b""]])
async def test_a_claim_that_is_cut_off_is_handed_back(runtime, answer):
    """It may have been granted, and then nobody would know of the token until its lease is over."""
    asked, ask = asyncio.Event(), runtime.courier.ask

    async def without_an_answer(call):
        if call.script.name != "claim":
            return await ask(call)
        runtime.courier.calls.append(call)
        asked.set()
        return await asyncio.Event().wait()

    runtime.courier.ask = without_an_answer
    runtime.courier.replies["settle"] = [answer]
    task = asyncio.ensure_future(runner.run(runtime, FLIGHT, 5))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    claim, settlement = runtime.courier.calls
    assert settlement.args[1:4] == (FLIGHT, claim.args[2], "interrupted")
    assert len(runtime.sweeper.published) == (answer[0] == b"queued")


async def test_a_claim_that_cannot_be_handed_back_is_left_to_its_lease(runtime, monkeypatch):
    """The cancellation goes on, whatever the server says."""
    monkeypatch.setattr(runner, "CLEANUP_GRACE", 0)
    asked = asyncio.Event()

    async def away(call):
        if call.script.name == "claim":
            asked.set()
            await asyncio.Event().wait()
        raise RedisConnectionError("away")

    runtime.courier.ask = away
    task = asyncio.ensure_future(runner.run(runtime, FLIGHT, 5))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("region", "state"), [("europe-west4", "succeeded"), ("us-central1", "retry"), (None, "retry")]
)
async def test_a_residency_is_never_violated(runtime, region, state):
    """A route in another region, or in none that is known, is sent nothing."""
    asked = REQUEST[:-1] + b',"residency":["europe-west4","europe-west9"]}'
    runtime.courier.replies["claim"] = [[*GRANTED[:6], asked, *GRANTED[7:]]]
    await runner.run(with_way(runtime, route=replace(way_of(runtime).route, region=region)), FLIGHT, 5)
    outcome, detail = runtime.courier.settlement()
    assert outcome == state
    assert bool(runtime.courier.written) == (state == "succeeded")
    assert state == "succeeded" or "europe-west4, europe-west9 only" in detail["message"]


@pytest.fixture
def refusing(runtime):
    """Return a function that makes a runtime whose flight is a suspect and whose key is played."""

    def make(bars, told="queued"):
        runtime.courier.replies["claim"] = [[b"suspect"], GRANTED]
        runtime.solo.told = told
        return with_way(runtime, access=Access(bars))

    return make


@pytest.mark.parametrize(("told", "trials"), [("succeeded", 0), ("queued", 1)])
async def test_a_suspect_runs_in_a_process_of_its_own(refusing, told, trials):
    """It is claimed there; when it comes back though nobody asked for that, the key is tried here."""
    runtime = refusing(None, told)
    assert await runner.run(runtime, FLIGHT, 5) == told
    assert [call.script.name for call in runtime.courier.calls] == ["claim"]
    assert provider_of(runtime).requests == []
    assert way_of(runtime).access.trials == trials


@pytest.mark.parametrize(("retryable", "outcome"), [(True, "interrupted"), (False, "failed")])
async def test_a_suspect_is_not_run_while_the_key_is_refused(refusing, retryable, outcome):
    """It is claimed as alone only to be handed back, or to end in the provider's words; nothing is asked."""
    runtime = refusing(ProviderError("KEY", "Not valid.", 400, retryable=retryable))
    await runner.run(runtime, FLIGHT, 5)
    assert [(call.script.name, call.args[-1]) for call in runtime.courier.calls[:2]] == [("claim", 0), ("claim", 1)]
    assert runtime.courier.settlement()[0] == outcome
    assert runtime.solo.ran == []
    assert provider_of(runtime).requests == []
