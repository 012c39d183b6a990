"""Options of `celery worker` that cannot do here what they promise."""

import click
import pytest
from celery.concurrency.thread import TaskPool as Threads

from genqueue.lanes import QUEUES, SUBMIT_QUEUE
from genqueue_worker.pool import TaskPool
from genqueue_worker.suitability import check_options, check_queues


def chosen(*arguments, default=TaskPool):
    """Check the options of a command line, as Celery's worker command would after reading it."""

    @click.command()
    @click.option("-P", "--pool", default=lambda: default)
    def worker(pool):
        check_options({"pool": TaskPool})

    worker.main(list(arguments), standalone_mode=False)


@pytest.mark.parametrize(
    ("pool", "name"),
    [(Threads, "threads"), ("celery.concurrency.gevent:TaskPool", "gevent"), ("mine:Pool", "mine:Pool")],
)
def test_other_pools_are_refused_with_the_reason(pool, name):
    """By the name that was asked for, not what Celery made of it, and with what to do instead."""
    with pytest.raises(SystemExit, match=rf"-P {name}: .*coroutines on one asyncio loop.*leave -P out.*-c"):
        check_options({"pool": pool})


@pytest.mark.parametrize("given", [["-c", "0"], ["-c0"], ["--concurrency=0"], ["--concurrency", "auto"]])
def test_no_slots_are_refused(given, monkeypatch):
    """Celery would take 0 for the default and auto for the number of CPUs, and say nothing."""
    monkeypatch.setattr("sys.argv", ["celery", "-A", "genqueue_worker.app", "worker", *given])
    with pytest.raises(SystemExit, match=r"-c (0|auto): expected .* 1 or more.*GENQUEUE_SLOTS"):
        check_options({})
    monkeypatch.setattr("sys.argv", ["celery", "worker", "-c", "12", "-n", "0"])
    check_options({})


def test_our_own_pool_suits():
    """With -P and without."""
    check_options({})
    check_options({"pool": TaskPool, "autoscale": None})
    chosen()


def test_prefork_is_refused_only_when_somebody_asked_for_it():
    """Celery takes it for the default, and hands over the app's pool either way."""
    with pytest.raises(SystemExit, match="-P prefork: "):
        chosen("-P", "prefork")


def test_there_is_nothing_to_scale():
    """A slot costs nothing while it is free."""
    with pytest.raises(SystemExit, match=r"--autoscale.*-c"):
        check_options({"autoscale": (10, 2)})


def test_queues_that_nothing_comes_by_are_refused():
    """By name, with those there are."""
    check_queues([*QUEUES, SUBMIT_QUEUE])
    with pytest.raises(SystemExit, match=r"-Q mail: no such queue, expected some of .*generate\.high"):
        check_queues(["generate.high", "mail"])
