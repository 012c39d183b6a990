"""When a watchdog restarts a consumer, gives a worker up, or does nothing."""

import threading

import pytest

from genqueue_worker.watchdog import CONNECT, Judge, Look, Patience, Ping, Verdict, Watchdog

WELL = {"loop": True, "hub": True, "consuming": True, "stopping": False, "broker": True, "hungry": False}


def verdicts(judge, seconds, *, popped=0, **seen):
    """Return what the judge says over so many seconds of the same sight, one look each."""
    looks = (Look(**{**WELL, **seen}, popped=popped() if callable(popped) else popped) for _ in range(seconds))
    return [verdict for look in looks if (verdict := judge.judge(look, 1.0))]


@pytest.fixture
def judge():
    """Return a judge with a patience of 30 s for stalls and 60 s for what is stuck."""
    return Judge(Patience(30, 60))


def test_hunger_restarts_the_consumer_and_then_gives_up(judge):
    """After its patience each, and a moment without a connection in between changes nothing."""
    assert verdicts(judge, 29, hungry=True) == []
    assert verdicts(judge, 1, hungry=True) == [Verdict.RESTART]
    assert verdicts(judge, 5, consuming=False) == []
    assert verdicts(judge, 30, hungry=True) == [Verdict.GIVE_UP]


def test_a_restart_that_helped_is_forgotten(judge):
    """The next stall begins with a restart again."""
    assert verdicts(judge, 30, hungry=True) == [Verdict.RESTART]
    assert verdicts(judge, 1, hungry=True, popped=7) == []
    assert verdicts(judge, 30, hungry=True, popped=7) == [Verdict.RESTART]


@pytest.mark.parametrize(
    "seen",
    [
        {"hungry": False},  # no free slot, held, queues cancelled, queues empty, or nobody knows what is in them
        {"hungry": True, "stopping": True},
        {"hungry": True, "popped": iter(range(10_000)).__next__},
        {"consuming": False, "hub": False, "broker": False},
        {"hub": False, "stopping": True},
        {"hub": False, "broker": False},
    ],
    ids=["sated", "stopping", "fetching", "broker away", "draining", "broker hangs"],
)
def test_nothing_is_done_without_need(judge, seen):
    """However long it lasts."""
    assert verdicts(judge, 1000, **seen) == []


def test_what_does_not_turn_is_stuck(judge):
    """The hub while it consumes, the loop always; one turn in time starts the count anew."""
    assert verdicts(judge, 59, hub=False) + verdicts(judge, 1) + verdicts(judge, 59, hub=False) == []
    assert verdicts(judge, 1, hub=False) == [Verdict.HUB_STUCK]
    assert set(verdicts(judge, 60, loop=False, stopping=True)) == {Verdict.LOOP_STUCK}


def test_a_broker_that_answers_must_be_connected_to(judge):
    """Later than a stuck thread is given up: connecting takes some tries."""
    assert verdicts(judge, 59 + int(CONNECT), consuming=False, hub=False) == []
    assert verdicts(judge, 1, consuming=False, hub=False) == [Verdict.GIVE_UP]


def test_without_patience_nothing_is_done():
    """0 switches it off."""
    judge = Judge(Patience(0, 0))
    assert verdicts(judge, 1000, hungry=True, hub=False, loop=False) == []
    assert judge.lasting("loop") == 1000


def test_a_ping_waits_for_its_answer():
    """One call at a time, however often it is asked."""
    sent = []
    ping = Ping(sent.append)
    assert [ping.answered() for _ in range(3)] == [True, False, False]
    sent.pop()()
    assert ping.answered()
    assert len(sent) == 1


def test_a_worker_that_does_not_end_is_ended(monkeypatch):
    """After it was given up, when its own time is over, with its flights handed back."""
    left = threading.Event()
    story = []

    class Ward:
        def look(self):
            return Look(**{**WELL, "hungry": True, "stopping": "give up" in story}, popped=0)

        def restart(self):
            story.append("restart")

        def give_up(self):
            story.append("give up")

        def hand_back(self):
            story.append("hand back")

    def leave():
        left.set()
        watchdog.close()

    monkeypatch.setattr("genqueue_worker.watchdog._leave", leave)
    watchdog = Watchdog(Ward(), Patience(0.02, 0), ending=0.05)
    watchdog.start()
    assert left.wait(10)
    assert story[:3] == ["restart", "give up", "hand back"]
