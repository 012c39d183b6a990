"""What following a job looks like."""

import io
import re

import pytest
from rich.console import Console

from genqueue.cli.follow import follow
from genqueue.cli.live import LiveView
from genqueue.cli.views import JsonView, PlainView, Stopwatch, notice, printable, summary
from genqueue.errors import JobCancelled, JobFailed
from genqueue.events import Event

COMPLETED = Event(
    "9-0",
    "completed",
    1,
    0,
    {
        "source": "live",
        "finish_reason": "STOP",
        "usage": '{"output_tokens": 3}',
        "timings": '{"queued": 0.5, "ttft": 0.25}',
    },
)


#: What moves a terminal's cursor or colours.
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def delta(text, number=1):
    """Return a piece of an answer."""
    return Event(f"{number}-0", "delta", 1, number, {"text": text})


class StoredJob:
    """A job whose events are all there; Ctrl-C comes after `interrupt_after` of them."""

    id = "1-00000000000000000000"

    def __init__(self, *events, interrupt_after=None):
        self.events = events
        self.interrupt_after = interrupt_after

    def tail(self, after):
        """Yield the events, or raise KeyboardInterrupt among them."""
        for number, event in enumerate(self.events):
            if number == self.interrupt_after:
                raise KeyboardInterrupt
            yield event


def test_plain_text_is_the_answer_and_nothing_else(capsys):
    """The answer goes to stdout with a line end, the summary to stderr."""
    with PlainView() as view:
        for event in (Event("0-1", "queued"), Event("0-2", "started"), delta("Hel"), delta("lo"), COMPLETED):
            view.show(event)
    printed = capsys.readouterr()
    assert printed.out == "Hello\n"
    assert printed.err == "[source live, TTFT 0.750 s, 3 tokens, finish STOP]\n"


def test_plain_text_says_when_the_answer_begins_again(capsys):
    """The discarded piece is closed by a line end, the notice is on stderr."""
    with PlainView() as view:
        for event in (delta("Hal"), Event("2-0", "restarted", fields={"reason": "lost"}), delta("Hello")):
            view.show(event)
    printed = capsys.readouterr()
    assert printed.out == "Hal\nHello\n"
    assert printed.err == "[restarted (lost): the answer begins again]\n"


def test_an_answer_that_goes_on_after_an_attempt_keeps_its_text(capsys):
    """Not even a line end comes in between; stderr says where the next one begins."""
    with PlainView() as view:
        for event in (delta("Hel"), Event("2-0", "continued", fields={"reason": "retry", "kept": "2"}), delta("lo")):
            view.show(event)
    printed = capsys.readouterr()
    assert printed.out == "Hello\n"
    assert printed.err == "\n[continued (retry): another attempt goes on from here]\n"


def test_a_part_is_a_line_of_json(capsys):
    """Function calls and the like stand on lines of their own."""
    with PlainView() as view:
        for event in (delta("x"), Event("2-0", "part", fields={"json": '{"functionCall":{}}'}), delta("y")):
            view.show(event)
    assert capsys.readouterr().out == 'x\n{"functionCall":{}}\ny\n'


def test_json_is_one_event_a_line(capsys):
    """With id, type, attempt, number and fields."""
    with JsonView("1-ab") as view:
        view.show(delta("é\n", 7))
    assert capsys.readouterr().out == (
        '{"job_id": "1-ab", "id": "7-0", "type": "delta", "attempt": 1, "n": 7, "fields": {"text": "é\\n"}}\n'
    )


def drawn(*events, width=20, began=None):
    """Return all that a terminal was sent, without escape sequences."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None, highlight=False)
    with LiveView("high", began, console) as view:
        for event in events:
            view.show(event)
    return _SEQUENCE.sub("\r", screen.getvalue())


def test_the_live_view_prints_rows_for_good():
    """Rows are wrapped at words; the status line names the lane; the summary comes last."""
    screen = drawn(delta("one two three four five six\n"), delta("seven [bold]x"), COMPLETED, width=60)
    rows = [row.split("\r")[-1] for row in screen.split("\n")]
    assert "one two three four five six" in rows
    assert "seven [bold]x" in rows
    assert "[source live, TTFT 0.750 s, 3 tokens, finish STOP]" in rows
    assert "high · queued" in screen


def test_the_live_view_wraps_a_long_row_at_words():
    """What does not fit moves on to the next row, and none is lost."""
    screen = drawn(*(delta(f"word{number} ") for number in range(12)))
    rows = [row.split("\r")[-1].strip() for row in screen.split("\n")]
    assert "word0 word1 word2" in rows
    assert "word9 word10 word11" in rows


def test_the_live_view_shows_attempts_waits_and_thoughts():
    """Each is told apart from the answer."""
    events = (
        Event("1-0", "started", 2),
        Event("2-0", "thought", fields={"text": "hm"}),
        Event("3-0", "waiting", fields={"reason": "retry", "code": "UNAVAILABLE", "until": "1000"}),
    )
    screen = drawn(*events, width=80)
    assert "running, attempt 2" in screen
    assert "hm" in screen
    assert "(UNAVAILABLE)]" in screen


def test_nothing_an_answer_holds_steers_the_terminal():
    """Control characters are dropped, line ends and tabs kept."""
    assert printable("a\x1b[31mb\x07\x9b\r\n\tc\u0085é") == "a[31mb\n\tcé"
    assert "\x1b]0;title" not in drawn(delta("\x1b]0;title\x07x\n"))


def test_ctrl_c_says_how_to_resume(capsys):
    """The id is that of the last event shown."""
    job = StoredJob(delta("a", 1), delta("b", 2), delta("c", 3), interrupt_after=2)
    with pytest.raises(KeyboardInterrupt):
        follow(job, PlainView())
    printed = capsys.readouterr()
    assert printed.out == "ab\n"
    assert f"genqueue tail {job.id} --after 2-0" in printed.err


def test_ctrl_c_before_anything_came_resumes_where_it_began(capsys):
    """The position of the call is repeated, or left out."""
    for after, hint in (("5-0", " --after 5-0\n"), (None, f"{StoredJob.id}\n")):
        with pytest.raises(KeyboardInterrupt):
            follow(StoredJob(delta("a"), interrupt_after=0), PlainView(), after)
        assert capsys.readouterr().err.endswith(hint)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Event("1-0", "failed", fields={"code": "X", "message": "no"}), JobFailed),
        (Event("1-0", "cancelled"), JobCancelled),
        (Event("1-0", "left", fields={"reason": "cancelled"}), JobCancelled),
    ],
)
def test_an_end_without_an_answer_is_an_error(event, error):
    """The same that result() raises."""
    with pytest.raises(error):
        follow(StoredJob(event), JsonView("1-ab"))


def test_nothing_behind_the_end_is_said(capsys):
    """Resuming behind the last event prints a line, so that silence is not taken for a fault."""
    follow(StoredJob(), PlainView(), "9-0")
    assert "had ended; nothing comes behind 9-0" in capsys.readouterr().err


def test_the_summary_prefers_what_this_reader_measured(monkeypatch):
    """A submit's own time to first token counts, from the call on."""
    monkeypatch.setattr("time.monotonic", lambda: 12.5)
    stopwatch = Stopwatch(began=12.0)
    stopwatch.saw(delta("a"))
    assert "TTFT 0.500 s" in summary(COMPLETED, stopwatch)
    assert "TTFT unknown" in summary(Event("1-0", "completed"), Stopwatch(None))


def test_a_wait_names_its_reason_when_it_has_no_code():
    """So that an interrupted or lifted flight is explained too."""
    assert notice(Event("1-0", "waiting", fields={"reason": "budget", "until": "0"})).endswith("(budget)]")
