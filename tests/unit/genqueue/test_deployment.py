"""Joining a deployment: what all must agree on, and whose clock counts."""

import pytest

from genqueue.deployment import JUMP, REFRESH, Deployment
from genqueue.errors import SettingsError
from genqueue.keys import SCHEMA, Keys

KEYS = Keys("gq", 64)
THE_SAME = [b"64", str(SCHEMA).encode()]


def showing(seconds, known=THE_SAME):
    """Return the reply of a server whose clock shows these seconds."""
    whole, fraction = divmod(seconds, 1)
    return [(str(int(whole)).encode(), str(int(fraction * 1e6)).encode()), known]


@pytest.fixture
def deployment():
    """Return a deployment that was not joined yet."""
    return Deployment(KEYS)


def test_the_first_process_records_the_constants(stage, deployment):
    """Set only where they lack, so that two first processes agree."""
    stage.play(deployment.enter(), showing(1000, [None, None]), [1, 1, THE_SAME])
    written = stage.steps[1].commands
    assert [command[:3] for command in written[:2]] == [
        ("HSETNX", "gq:meta", "partitions"),
        ("HSETNX", "gq:meta", "schema"),
    ]


def test_later_ones_only_read_and_only_once(stage, deployment):
    """One round trip, and none for the next job."""
    for _ in range(2):
        stage.play(deployment.enter(), *([] if stage.steps else [showing(1000)]))
    assert len(stage.steps) == 1


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([b"32", b"1"], ["GENQUEUE_PARTITIONS: got 64, expected 32"]),
        ([b"64", b"9"], ["schema 1.*has 9"]),
        ([b"32", b"9"], ["got 64, expected 32", "has 9"]),
    ],
)
def test_a_mismatch_is_refused_with_both_figures(stage, deployment, found, told):
    """Wrong partitions would look for jobs where they are not."""
    with pytest.raises(SettingsError) as raised:
        stage.play(deployment.enter(), showing(1000, found))
    assert len(raised.value.problems) == len(told)
    for pattern in told:
        assert raised.match(pattern)


@pytest.mark.parametrize("skew", [-86_400.5, 0.0, 3.25])
def test_the_servers_clock_counts(stage, clock, deployment, skew):
    """A machine whose clock is wrong gets the server's time all the same."""
    server = clock.seconds + 90_000 + skew
    stage.play(deployment.enter(), showing(server))
    assert deployment.now() == pytest.approx(server, abs=1e-5)
    clock.seconds += 10
    assert deployment.now() == pytest.approx(server + 10, abs=1e-5)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_moves_nothing(stage, clock, deployment, jump):
    """The server's time goes on by the monotonic clock, and is read again at the next use."""
    stage.play(deployment.enter(), showing(5000))
    clock.jumped = jump
    assert deployment.now() == pytest.approx(5000, abs=1e-5)
    stage.play(deployment.enter(), showing(6000))
    assert deployment.now() == pytest.approx(6000, abs=1e-5)
    stage.play(deployment.enter())


@pytest.mark.parametrize(("passed", "asked"), [(REFRESH - 1, 1), (REFRESH + 1, 2)])
def test_the_clock_is_read_again_after_some_minutes(stage, clock, deployment, passed, asked):
    """Two clocks drift apart, and a slow drift shows in neither."""
    stage.play(deployment.enter(), showing(5000))
    clock.seconds += passed
    stage.play(deployment.enter(), *([showing(7000)] if asked > 1 else []))
    assert len(stage.steps) == asked


def test_a_server_that_may_be_another_is_joined_again(stage, deployment):
    """An empty one in its place knows nothing of the deployment; in doubt the time is as it was."""
    stage.play(deployment.enter(), showing(5000))
    deployment.doubt()
    assert deployment.now() >= 5000
    stage.play(deployment.enter(), showing(5000, [None, None]), [1, 1, THE_SAME])
    stage.play(deployment.enter())
    assert len(stage.steps) == 3


def test_a_small_difference_of_this_machines_clocks_is_none(stage, clock, deployment):
    """Time servers slew a wall clock all the time."""
    stage.play(deployment.enter(), showing(5000))
    clock.jumped = JUMP / 2
    stage.play(deployment.enter())
    assert len(stage.steps) == 1


def test_the_time_before_the_first_reading_is_a_mistake(deployment):
    """Whoever forgets to enter hears of it."""
    with pytest.raises(RuntimeError, match="enter"):
        deployment.now()
