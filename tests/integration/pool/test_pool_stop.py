"""Starting and stopping: the lifespan, the drain, the cold stop, the soft stop, and a server that goes away."""

import contextlib
import signal
import time

import pytest

from genqueue_lab.servers import RedisServer


def running(fleet, name, *args, **options):
    """Send a task and return its id once it runs."""
    task_id = fleet.send(name, *args, **options)
    fleet.wait_note(task_id, "started")
    return task_id


def test_sigterm_lets_running_tasks_end_and_exits_0(fleet):
    """The events of what ends during the drain go out, and the lifespan is left after it."""
    worker = fleet.start(poll=0.1, lifespan="notes")
    task = running(fleet, "hold", "go")
    late = running(fleet, "late_nap", 0.3)
    worker.stop(signal.SIGTERM)
    fleet.until(lambda: "Warm shutdown" in worker.text, "the worker stops")
    fleet.wait_for(late, "succeeded")
    fleet.until(lambda: not fleet.store.hlen("unacked"), "it is acknowledged although the hub stands")
    assert fleet.notes("lifespan") == ["entered:True"]
    fleet.store.set("go", 1)
    assert worker.exit_status() == 0
    assert fleet.types(task)[-1] == "succeeded"
    assert fleet.notes("lifespan") == ["entered:True", "left"]


def test_what_outlasts_the_drain_is_told_shutdown_and_may_clean_up(fleet):
    """It is announced as cancelled, as in Celery's own cold stop, and the worker still exits 0."""
    worker = fleet.start(poll=0.1, conf={"genqueue_drain_timeout": 0.2})
    task = running(fleet, "hold", "go")
    worker.stop(signal.SIGTERM)
    assert worker.exit_status() == 0
    assert fleet.notes(task) == ["started", "cancelled:shutdown:shutdown", "cleaned up"]
    assert fleet.types(task)[-1] == "cancelled"
    assert "pool.drain_ended running=1" in worker.text


def test_a_late_acknowledged_task_cut_off_by_the_drain_comes_back(fleet):
    """Its message is restored to the queue, once."""
    worker = fleet.start(poll=0.1, conf={"genqueue_drain_timeout": 0.2})
    running(fleet, "late_nap", 60)
    worker.stop(signal.SIGTERM)
    assert worker.exit_status() == 0
    assert fleet.store.llen("generate.normal") == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_ends_the_drain_at_once(fleet, second):
    """SIGTERM again, or SIGQUIT, cancels what still runs."""
    worker = fleet.start(poll=0.1, lifespan="notes")
    task = running(fleet, "hold", "go")
    worker.stop(signal.SIGTERM)
    fleet.until(lambda: "Warm shutdown" in worker.text, "the worker stops")
    asked = time.monotonic()
    worker.stop(second)
    worker.exit_status()
    assert time.monotonic() - asked < 5
    assert fleet.notes(task)[1:] == ["cancelled:shutdown:shutdown", "cleaned up"]
    assert fleet.notes("lifespan")[-1] == "left"


def test_sigquit_is_immediate(fleet):
    """Tasks are told shutdown and may clean up; nothing is waited for beyond that."""
    worker = fleet.start(poll=0.1)
    task = running(fleet, "hold", "go")
    worker.stop(signal.SIGQUIT)
    worker.exit_status()
    assert fleet.notes(task)[1:] == ["cancelled:shutdown:shutdown", "cleaned up"]


def test_a_task_that_ignores_its_cancellation_does_not_hold_the_worker(fleet):
    """It is named in a warning when its grace ends."""
    worker = fleet.start(poll=0.1, conf={"genqueue_drain_timeout": 0.1})
    running(fleet, "stubborn")
    worker.stop(signal.SIGTERM)
    assert worker.exit_status(30) == 0
    assert "pool.task_left task=t.stubborn" in worker.text


def test_a_soft_stop_lets_short_tasks_end(fleet):
    """SIGQUIT with Celery's soft shutdown: what ends in time is announced so, once; the rest is cut off."""
    worker = fleet.start(poll=0.1, conf={"worker_soft_shutdown_timeout": 1.0})
    short, long = running(fleet, "late_nap", 0.2), running(fleet, "hold", "go")
    worker.stop(signal.SIGQUIT)
    worker.exit_status()
    assert [kind for kind in fleet.types(short) if kind in {"succeeded", "cancelled"}] == ["succeeded"]
    assert fleet.notes(long)[1:] == ["cancelled:shutdown:shutdown", "cleaned up"]


def test_a_lifespan_that_fails_ends_the_worker_with_one_clear_line(fleet):
    """No traceback, exit status 1, nothing consumed."""
    worker = fleet.start(poll=0.1, lifespan="fails", ready=False)
    assert worker.exit_status() == 1
    (line,) = [line for line in worker.text.splitlines() if "pool.start_failed" in line]
    assert line.endswith("error=RuntimeError: no data server | at all")
    assert "Traceback" not in worker.text


def test_a_lifespan_that_breaks_stops_the_worker(fleet):
    """Running tasks are told shutdown and the exit status is 1, so that whoever supervises starts it anew."""
    worker = fleet.start(poll=0.1, lifespan="breaks")
    task = running(fleet, "hold", "go")
    fleet.store.set("break", 1)
    assert worker.exit_status() == 1
    assert fleet.notes(task)[1:] == ["cancelled:shutdown:shutdown", "cleaned up"]
    assert "pool.lost error=RuntimeError: the runtime broke" in worker.text


def test_a_loop_that_ends_stops_the_worker(fleet):
    """SystemExit in an asyncio task of somebody's ends the loop; a worker without one must not linger."""
    worker = fleet.start(poll=0.1)
    fleet.send("escape")
    assert worker.exit_status() == 1
    assert "pool.lost error=SystemExit: 3" in worker.text


def test_the_worker_outlives_its_server(own_server, make_fleet):
    """Killed and started again with a task in flight, the server finds the same process consuming."""
    with contextlib.closing(make_fleet(own_server.url())) as fleet:
        worker = fleet.start(poll=0.1)
        flying = fleet.send("nap", 1.0)
        fleet.wait_for(flying, "started")
        own_server.kill()
        fleet.until(lambda: "Connection to broker lost" in worker.text, "the worker notices")
        with RedisServer(own_server.binary, port=own_server.port, directory=own_server.directory):
            echo = fleet.send("echo", 1)
            # not by its event, which may come before this process listens again
            fleet.until(lambda: f"Task t.echo[{echo}] succeeded" in worker.text, "a task succeeds")
            fleet.until(lambda: f"Task t.nap[{flying}] succeeded" in worker.text, "the task in flight ended")
            fleet.until(lambda: fleet.stats()["pool"]["running"] == 0, "no slot is held")
            assert worker.process.poll() is None
            worker.process.kill()
            fleet.close()
