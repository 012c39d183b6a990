"""Joining a deployment: what all must agree on, and whose clock counts."""

import pytest

from genqueue.deployment import Deployment, join
from genqueue.errors import SettingsError
from genqueue.keys import SCHEMA, Keys

KEYS = Keys("gq", 64)
THE_SAME = [b"64", str(SCHEMA).encode()]


def test_the_first_process_records_the_constants(stage):
    """Set only where they lack, so that two first processes agree."""
    stage.play(join(KEYS), [(b"1000", b"0"), [None, None]], [1, 1, THE_SAME])
    written = stage.steps[1].commands
    assert [command[:3] for command in written[:2]] == [
        ("HSETNX", "gq:meta", "partitions"),
        ("HSETNX", "gq:meta", "schema"),
    ]


def test_later_ones_only_read(stage):
    """One round trip."""
    stage.play(join(KEYS), [(b"1000", b"0"), THE_SAME])
    assert len(stage.steps) == 1


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([b"32", b"1"], ["GENQUEUE_PARTITIONS: got 64, expected 32"]),
        ([b"64", b"9"], ["schema 1.*has 9"]),
        ([b"32", b"9"], ["got 64, expected 32", "has 9"]),
    ],
)
def test_a_mismatch_is_refused_with_both_figures(stage, found, told):
    """Wrong partitions would look for jobs where they are not."""
    with pytest.raises(SettingsError) as raised:
        stage.play(join(KEYS), [(b"1000", b"0"), found])
    assert len(raised.value.problems) == len(told)
    for pattern in told:
        assert raised.match(pattern)


@pytest.mark.parametrize("skew", [-86_400.5, 0.0, 3.25])
def test_the_servers_clock_counts(stage, clock, skew):
    """A machine whose clock is wrong gets the server's time all the same."""
    seconds, fraction = divmod(clock.seconds + skew, 1)
    deployment = stage.play(join(KEYS), [(str(int(seconds)).encode(), str(int(fraction * 1e6)).encode()), THE_SAME])
    assert deployment == Deployment(KEYS, pytest.approx(skew, abs=1e-5))
    clock.seconds += 10
    assert deployment.now() == pytest.approx(clock.seconds + skew, abs=1e-5)
