"""What is counted when, and that nothing is counted twice."""

import pytest

from genqueue.ledger import Publication, Settled, Swept
from genqueue_worker.outcome import Cancelled, Failed, Interrupted, Refused, Retry, Succeeded
from genqueue_worker.telemetry import CODES, METRICS, Telemetry, outcome_of

DONE = Succeeded(b"{}", {}, None)
LATER = Retry("UNAVAILABLE", "Busy", 1.0)


def settled(status, state=None, *, dead=False):
    """Return what a settlement did."""
    return Settled(status, state, None, None, None, dead=dead)


def value(telemetry, name):
    """Return the value of a metric, spelled with its labels."""
    lines = telemetry.text().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), None)


@pytest.mark.parametrize(
    ("outcome", "answer", "word"),
    [
        (DONE, settled("succeeded"), "succeeded"),
        (DONE, settled("already", "succeeded"), "succeeded"),
        (DONE, settled("refused"), "refused"),
        (DONE, settled("gone"), "refused"),
        (Failed("NOT_FOUND", ""), settled("failed"), "failed"),
        (Failed("NOT_FOUND", ""), settled("already", "failed"), "failed"),
        (LATER, settled("waiting"), "retry"),
        (LATER, settled("failed"), "failed"),
        (LATER, settled("already", "waiting"), "retry"),
        (LATER, settled("already", "running"), "retry"),
        (LATER, settled("already", "failed"), "failed"),
        (Interrupted(), settled("queued"), "interrupted"),
        (Interrupted(2.0), settled("waiting"), "interrupted"),
        (Interrupted(), settled("already", "succeeded"), "interrupted"),
        (Cancelled(), settled("cancelled"), "cancelled"),
        (Refused(), None, "refused"),
    ],
)
def test_an_attempt_counts_as_what_the_ledger_made_of_it(outcome, answer, word):
    """Also when its first answer was lost, and the flight has gone on since."""
    assert outcome_of(outcome, answer) == word


def test_retries_and_dead_letters():
    """A retry counts with its code until there are too many; a dead letter once, also one of a process of its own."""
    telemetry = Telemetry()
    telemetry.attempt("high", LATER, settled("waiting"))
    telemetry.attempt("high", LATER, settled("failed", dead=True))
    telemetry.attempt("high", LATER, settled("already", "failed"))
    telemetry.attempt("high", Failed("INVALID_ARGUMENT", ""), settled("failed"))
    assert value(telemetry, 'genqueue_attempts_total{lane="high",outcome="failed"}') == 3
    assert value(telemetry, 'genqueue_retries_total{code="UNAVAILABLE",lane="high"}') == 1
    assert value(telemetry, 'genqueue_dead_letters_total{cause="attempt"}') == 2
    telemetry.suspect("failed", dead=True)
    telemetry.suspect("succeeded", dead=False)
    assert value(telemetry, 'genqueue_suspects_total{outcome="failed"}') == 1
    assert value(telemetry, 'genqueue_dead_letters_total{cause="attempt"}') == 3
    for number in range(CODES + 3):
        telemetry.attempt("low", Retry(f"CODE_{number}", "", 1.0), settled("waiting"))
    assert value(telemetry, 'genqueue_retries_total{code="other",lane="low"}') == 4


def test_what_a_sweep_found():
    """By the lane of the queue in which it is published again; what had only waited is no trouble."""
    telemetry = Telemetry()
    again = Publication("3-f", "generate.low.again", 1)
    why = [("lost", again), ("lost", again), ("unheard", again), ("due", again), ("dead", None)]
    telemetry.swept(Swept(word, publication, "3-f") for word, publication in why)
    assert value(telemetry, 'genqueue_lease_recoveries_total{lane="low"}') == 2
    assert value(telemetry, 'genqueue_messages_republished_total{lane="low"}') == 1
    assert value(telemetry, 'genqueue_dead_letters_total{cause="lost"}') == 1
    assert value(telemetry, "genqueue_sweeps_total") == 1


class Clock:
    """A clock that was stopped."""

    ttft = 0.25

    def timings(self):
        """Return what it shows."""
        return {"queued": 2.0, "ttft": self.ttft, "total": 4.0}


def test_times_of_attempts_that_kept_their_token():
    """The wait counts once per flight, the whole time for an answer only."""
    telemetry = Telemetry()
    for first, answer in [(True, "waiting"), (False, "succeeded"), (False, "refused")]:
        telemetry.times("normal", first, Clock(), settled(answer))
    for name, count in {"queue_wait": 1, "ttft": 2, "flight": 1}.items():
        assert value(telemetry, f'genqueue_{name}_seconds_count{{lane="normal"}}') == count
    assert value(telemetry, 'genqueue_ttft_seconds_bucket{lane="normal",le="0.3"}') == 2


def test_names_follow_prometheus():
    """Every name begins alike, a counter ends in _total, a histogram in its unit."""
    for metric in METRICS:
        assert metric.name.startswith("genqueue_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_seconds") or metric.kind != "histogram"


def test_a_count_that_is_kept_elsewhere_is_followed():
    """Each scrape adds what is new; a keeper that begins anew does not turn the counter back."""
    telemetry, name = Telemetry(), "genqueue_provider_resent_total"
    for count in (0, 3, 3, 5, 1):
        telemetry.total(name, count, "gemini", "first")
    telemetry.total(name, 2, "openai", "first")
    assert value(telemetry, name + '{provider="gemini",route="first"}') == 6
    assert value(telemetry, name + '{provider="openai",route="first"}') == 2
