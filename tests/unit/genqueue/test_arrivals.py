"""Items on their way in: taken a little ahead, made batches of, and never waited for while a server is asked."""

from collections.abc import Sequence

import pytest

from genqueue import arrivals
from genqueue.arrivals import AHEAD_COUNT, BATCH_BYTES, BATCH_COUNT, Arrivals
from genqueue.deployment import Deployment
from genqueue.errors import InvalidRequest
from genqueue.intake import Candidate, Intake
from genqueue.keys import Keys
from genqueue.payload.codec import Codec
from genqueue.settings import Settings


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Take as many items ahead as may be, however slow this machine is."""
    monkeypatch.setattr(arrivals, "AHEAD_SECONDS", 3600.0)


@pytest.fixture
def arriving():
    """Make arrivals of items."""
    intake = Intake(Deployment(Keys()), Settings(data_url="redis://127.0.0.1:1/0"), Codec())
    return lambda items: Arrivals(items, {"model": "m"}, intake)


def noting(count, taken, size=1):
    """Yield that many items, noting each as it is taken."""
    for number in range(count):
        taken.append(number)
        yield {"contents": f"{number}".ljust(size)}


def contents(batch):
    """Return what each candidate of a batch says, or the field that was wrong."""
    return [one.order.document if isinstance(one, Candidate) else one.field for one in batch]


def test_looking_ahead_makes_the_next_batch_and_takes_nothing(arriving):
    """Whoever makes the items may be slow, or use the same client."""
    taken = []
    arrival = arriving(noting(AHEAD_COUNT + 1, taken))
    first = arrival.batch()
    assert len(taken) == AHEAD_COUNT
    batches = [first]
    while batches[-1]:
        before = len(taken)
        arrival.look_ahead()
        assert len(taken) == before
        batches.append(arrival.batch())
    assert [len(batch) for batch in batches] == [BATCH_COUNT] * 4 + [1, 0]
    documents = [document for batch in batches for document in contents(batch)]
    assert len(set(documents)) == AHEAD_COUNT + 1


def test_what_has_come_in_time_goes(arriving, monkeypatch):
    """Items that come slowly do not wait for each other."""
    monkeypatch.setattr(arrivals, "AHEAD_SECONDS", 0.0)
    arrival = arriving(noting(3, []))
    assert [len(arrival.batch()) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("looks", [True, False])
def test_the_memory_taken_is_bounded(arriving, looks):
    """Large items are taken one by one, and go one by one."""
    taken, ahead = [], []
    arrival = arriving(noting(6, taken, size=BATCH_BYTES))
    for number in range(6):
        assert len(arrival.batch()) == 1
        ahead.append(len(taken) - number - 1)
        if looks:
            arrival.look_ahead()
    assert max(ahead) <= 2
    assert arrival.batch() == []


def test_a_wrong_item_is_told_in_its_place(arriving):
    """The others go."""
    found = contents(arriving([{"contents": "a"}, 7, {"contents": ""}, {"contents": "b"}]).batch())
    assert found[1:3] == ["items", "contents"]
    assert b'"text":"a"' in found[0]
    assert b'"text":"b"' in found[3]


def test_an_item_within_itself_is_told_in_its_place(arriving):
    """And one that is deeper than Python's stack; neither keeps the others from going."""
    round_about, deep = [], "text"
    round_about.append(round_about)
    for _ in range(5000):
        deep = [deep]
    arrival = arriving([{"contents": "a"}, {"contents": round_about}, {"contents": deep}, {"contents": "b"}])
    found = contents([*arrival.batch(), *arrival.batch()])
    assert found[1:3] == ["contents[0][0]"] * 2
    assert b'"text":"b"' in found[3]


def test_what_a_callers_value_raises_is_raised_with_its_batch(arriving):
    """Looking ahead never fails: a server's replies wait."""

    class Broken(Sequence):
        def __len__(self):
            return 1

        def __getitem__(self, place):
            raise ZeroDivisionError

    arrival = arriving([*noting(BATCH_COUNT, []), {"contents": Broken()}])
    assert len(arrival.batch()) == BATCH_COUNT
    arrival.look_ahead()
    with pytest.raises(ZeroDivisionError):
        arrival.batch()


def test_what_is_wrong_has_no_weight(arriving):
    """A batch of nothing but errors is one."""
    assert [type(one) for one in arriving([7] * BATCH_COUNT).batch()] == [InvalidRequest] * BATCH_COUNT
