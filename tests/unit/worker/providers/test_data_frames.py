"""DATA frames beside all others, read from bytes that may be cut anywhere."""

import pytest
from h2.exceptions import FrameTooLargeError
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame

from genqueue_worker.providers.data_frames import Credit, DataFrames


class Answer:
    """Keeps what it is fed."""

    def __init__(self):
        self.fed = []

    def feed(self, data, size):
        """Keep a piece."""
        self.fed.append((data, size))


def data(stream, body, *flags, pad=0):
    """Return a DATA frame."""
    return DataFrame(stream, body, pad_length=pad, flags=[*flags, *(["PADDED"] if pad else [])]).serialize()


PING = PingFrame(0, b"12345678").serialize()
HEAD = HeadersFrame(3, b"block", flags=["END_HEADERS"]).serialize()


def sorted_out(frames, pieces):
    """Return what was left for `h2` of some pieces."""
    return [left for piece in pieces for left in frames.feed(piece)]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_answers_get_their_data_and_h2_the_rest(step):
    """In whole frames and in order; of an answer's end it sees an empty frame."""
    answer = Answer()
    frames = DataFrames({1: answer})
    sent = HEAD + data(1, b"one") + PING + data(3, b"not ours") + data(1, b"two", "END_STREAM")
    left = sorted_out(frames, [sent[at : at + step] for at in range(0, len(sent), step)])
    assert answer.fed == [(b"one", 3), (b"two", 3)]
    assert b"".join(left) == HEAD + PING + data(3, b"not ours") + data(1, b"", "END_STREAM")


def test_an_answer_may_begin_with_what_came_just_before():
    """Whether DATA is an answer's is asked once `h2` has seen all in front of it."""
    answer, answers = Answer(), {}
    for left in DataFrames(answers).feed(HEAD + data(3, b"text")):
        assert left == HEAD
        answers[3] = answer
    assert answer.fed == [(b"text", 4)]


def test_padding_is_counted_and_left_out():
    """It takes room in the window, and says nothing."""
    answer = Answer()
    assert not sorted_out(DataFrames({1: answer}), [data(1, b"text", pad=10)])
    assert answer.fed == [(b"text", 15)]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\0\0\2\0\x08\0\0\0\1\x09x", id="more padding than there is"),
        pytest.param(b"\0\0\0\0\x08\0\0\0\1", id="no word on how much padding"),
    ],
)
def test_what_breaks_the_protocol_is_for_h2_to_say(frame):
    """It is handed on as it came."""
    assert sorted_out(DataFrames({1: Answer()}), [frame]) == [frame]


@pytest.mark.parametrize("kind", [b"\0", b"\1"])
def test_a_frame_longer_than_allowed_is_not_waited_for(kind):
    """What would come next is not taken for frames; what came before is handed on."""
    fed = DataFrames({1: Answer()}).feed(PING + b"\0\x40\1" + kind + b"\0\0\0\0\1")
    assert next(fed) == PING
    with pytest.raises(FrameTooLargeError, match="16385 bytes: expected 16384 at most"):
        next(fed)


def test_a_window_is_opened_in_steps():
    """Not for each chunk that was read."""
    credit = Credit(100)
    assert [credit.update(5, 60), credit.update(5, 60)] == [b"", b"\0\0\4\x08\0\0\0\0\5\0\0\0\x78"]
    assert credit.update(5, 60) == b""
