"""Lanes, their numbers and their queues."""

import pytest

from genqueue.errors import InvalidRequest
from genqueue.lanes import LANES, QUEUES, again_queue_of, parse_lane, queue_of, queues_of


@pytest.mark.parametrize(
    ("value", "lane"),
    [("high", "high"), (" Normal ", "normal"), ("LOW", "low"), (1, "high"), ("2", "normal"), (3, "low")],
)
def test_a_lane_goes_by_name_or_number(value, lane):
    """Both spellings mean the same lane."""
    assert parse_lane(value) == lane


@pytest.mark.parametrize("value", ["", "urgent", 0, 4, -1, 1.0, True, None, b"high", ["high"], "\uff11"])
def test_anything_else_is_no_lane(value):
    """The message names the lanes there are."""
    with pytest.raises(InvalidRequest, match="one of high, normal, low") as raised:
        parse_lane(value)
    assert raised.value.field == "lane"


def test_what_comes_again_is_served_right_before_its_lane():
    """The order of the queues is lane by lane, `again` first."""
    assert tuple(queue for lane in LANES for queue in (again_queue_of(lane), queue_of(lane))) == QUEUES
    assert queues_of("low") == ("generate.low.again", "generate.low")
