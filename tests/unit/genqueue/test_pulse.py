"""Is a connection alive, and when to try again: by clocks that a test sets."""

import itertools

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from genqueue.connections.pulse import IDLE, PING_AFTER, PONG_WITHIN, QUICKEST, SLOWEST, BackOff, Pulse


def test_only_silence_is_asked_about():
    """Once, until something comes."""
    pulse = Pulse(100.0)
    assert not pulse.beat(100.0 + PING_AFTER / 2)
    pulse.hear(101.0)
    assert pulse.left(101.0) == PING_AFTER
    asked = 101.0 + PING_AFTER
    assert pulse.beat(asked)
    assert not pulse.beat(asked)
    assert pulse.left(asked) == PONG_WITHIN
    pulse.hear(asked + 0.1)
    assert not pulse.beat(asked + 0.2)


def test_no_answer_is_the_end():
    """Within a few seconds of the last sign of life."""
    pulse = Pulse(100.0)
    assert pulse.beat(100.0 + PING_AFTER)
    with pytest.raises(RedisTimeoutError, match="no answer to a ping"):
        pulse.beat(100.0 + PING_AFTER + PONG_WITHIN)
    assert PING_AFTER + PONG_WITHIN < 5.0


def test_a_connection_nobody_needs_is_given_up_after_a_while():
    """Counted from the last moment somebody did."""
    pulse = Pulse(100.0)
    pulse.need(200.0)
    assert not pulse.idle(199.0 + IDLE)
    assert pulse.idle(200.0 + IDLE)


def test_pauses_grow_to_a_bound_and_begin_anew():
    """Spread, so that a fleet does not come back as one."""
    back_off = BackOff()
    pauses = [back_off.next() for _ in range(12)]
    assert QUICKEST / 2 <= pauses[0] <= QUICKEST
    assert all(later <= 4 * earlier for earlier, later in itertools.pairwise(pauses))
    assert SLOWEST / 2 <= pauses[-1] <= SLOWEST
    back_off.reset()
    assert back_off.next() <= QUICKEST
