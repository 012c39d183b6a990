"""What the ledger is told about each way an attempt can end."""

import random
from typing import get_args

import pytest

from genqueue.ledger import Settlement
from genqueue_worker.outcome import (
    FIRST_DELAY,
    MAX_DELAY,
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Refused,
    Retry,
    Succeeded,
    Unsent,
    back_off,
    settlement,
)

LAST_WORDS = [{"type": "delta", "text": "s."}]
UNSENT = Unsent("3-f", "token", 4, LAST_WORDS)
REPLAY = [{"type": "delta", "text": "Yes."}]

STORIES = [
    (
        Succeeded(b"{}", {"finish_reason": "STOP"}, REPLAY),
        Settlement(
            "3-f", "token", "succeeded", 4, LAST_WORDS, result=b"{}", replay=REPLAY, detail={"finish_reason": "STOP"}
        ),
    ),
    (
        Failed("BAD", "No."),
        Settlement("3-f", "token", "failed", 4, LAST_WORDS, detail={"code": "BAD", "message": "No.", "retryable": "0"}),
    ),
    (
        Retry("BUSY", "Later.", 2.5),
        Settlement(
            "3-f",
            "token",
            "retry",
            4,
            LAST_WORDS,
            delay_ms=2500,
            detail={"code": "BUSY", "message": "Later.", "retryable": "1"},
        ),
    ),
    (Cancelled(), Settlement("3-f", "token", "cancelled", 4, LAST_WORDS)),
    (Interrupted(), Settlement("3-f", "token", "interrupted", 4, LAST_WORDS)),
    (Interrupted(2.0), Settlement("3-f", "token", "interrupted", 4, LAST_WORDS, 2000)),
    (Refused(), None),
]


@pytest.mark.parametrize(("outcome", "told"), STORIES, ids=lambda value: type(value).__name__)
def test_every_outcome_is_settled_in_one_way(outcome, told):
    """With the entries the stream may not have yet, whatever the outcome."""
    assert settlement(outcome, UNSENT) == told


def test_no_outcome_is_left_out():
    """The stories above are the whole union."""
    assert {type(outcome) for outcome, _ in STORIES} == set(get_args(Outcome))


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_says_whether_asking_again_may_help(retryable):
    """The stream's field is text."""
    told = settlement(Failed("TIME", "Over.", retryable=retryable), UNSENT)
    assert told.detail["retryable"] == ("1" if retryable else "0")


@pytest.mark.parametrize("tries", range(12))
def test_back_off_doubles_up_to_its_limit(tries):
    """Jitter is full at first, from nothing to the ceiling, which doubles with each try; later over its upper half."""
    chance = random.Random(7)
    ceiling = min(MAX_DELAY, FIRST_DELAY * 2**tries)
    floor = ceiling / 2 if tries >= 4 else 0.0
    delays = [back_off(tries, None, chance) for _ in range(400)]
    assert floor <= min(delays) < floor + ceiling * 0.05
    assert ceiling * 0.95 < max(delays) <= ceiling
    assert sum(delays) / len(delays) == pytest.approx((floor + ceiling) / 2, rel=0.15)


def test_an_outage_of_half_a_minute_uses_up_nobodys_tries():
    """Eight tries that all fail at once take longer, whatever the dice say."""
    for seed in range(2000):
        chance = random.Random(seed)
        assert sum(back_off(tries, None, chance) for tries in range(7)) > 30


def test_the_same_chance_gives_the_same_delay():
    """Nothing but the argument is random."""
    assert back_off(3, None, random.Random(1)) == back_off(3, None, random.Random(1))


@pytest.mark.parametrize(("told", "spread"), [(0.25, 0.25), (30.0, 3.0), (90.0, 9.0), (3600.0, 10.0)])
def test_back_off_is_never_sooner_than_the_provider_told(told, spread):
    """Also beyond our own limit; what was told the same moment comes back spread out."""
    delays = [back_off(0, told, random.Random(seed)) for seed in range(500)]
    assert told <= min(delays) < told + spread * 0.05 + 0.01
    assert max(delays) <= max(told + spread, FIRST_DELAY)
    assert max(delays) - min(delays) > spread * 0.9
    assert 0 < back_off(0, 0.0, random.Random(1)) < 1


def test_no_number_breaks_the_back_off():
    """However many tries failed and whatever the provider asks for, the wait is a finite number of seconds."""
    assert back_off(5000, None, random.Random(1)) <= 60
    assert 86_400 <= back_off(0, float("inf"), random.Random(1)) <= 86_410
