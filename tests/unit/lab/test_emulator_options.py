import pytest

from genqueue_lab.emulator import Options, Pace


def test_a_pace_changes_from_text_and_numbers():
    """Values may come from header fields, as text, or from JSON."""
    assert Pace().changed({"ttft": "0.5", "tokens": 7}) == Pace(ttft=0.5, tokens=7)


@pytest.mark.parametrize("values", [{"ttft": -1}, {"tpot": "nan"}, {"tokens": 0}, {"tokens": "many"}, {"speed": 1}])
def test_a_pace_that_makes_no_sense_is_refused(values):
    """Negative times, empty answers, odd text and unknown names are errors that name the field."""
    with pytest.raises(ValueError, match=next(iter(values))):
        Pace().changed(values)


def test_everything_stays_on_this_machine_by_default():
    """The emulator listens on the loopback interface on a free port unless told otherwise."""
    assert (Options().host, Options().port, Options().max_concurrent_streams) == ("127.0.0.1", 0, 100)
