"""Workers that are stuck or fetch nothing notice it by themselves, and say so over HTTP."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from acceptance_workers import wait_until
from celery import Celery

from genqueue_lab.servers import free_port

MODEL = "gemini-3-pro-preview"
HERE = str(Path(__file__).parent)
#: Seconds of patience, both for what stalls and for what is stuck.
PATIENCE = 1
#: A job each for a worker of its own, and the command that breaks it.
FAULTS = {"high": "deafen", "normal": "deafen_for_good", "low": "hang_hub"}


def get(port, path, method="GET"):
    """Return status and body of a worker's page."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as page:
            return page.status, page.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def why_not(port, page):
    """Return the reasons a worker gives on /livez or /readyz."""
    return json.loads(get(port, page)[1])["reasons"]


def metric(port, name):
    """Return the value of a metric, spelled with its labels."""
    lines = get(port, "/metrics")[1].decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " "))


@pytest.fixture
def make_worker(start_worker):
    """Start workers that can be broken, each with a port for its health; ready when `wait_ready` returns."""

    def make(*arguments, **options):
        port = free_port()
        worker = start_worker(
            ready=False,
            arguments=(*arguments, "--without-mingle", "--without-gossip"),
            GENQUEUE_HEALTH_PORT=port,
            GENQUEUE_STALL_TIMEOUT=PATIENCE,
            GENQUEUE_STUCK_TIMEOUT=PATIENCE,
            GENQUEUE_DRAIN_TIMEOUT=0.3,
            PYTHONPATH=HERE,
            **options,
        )
        return worker, port

    return make


@pytest.fixture
def control(own_server):
    """Give commands to every worker of the test's own server, or to one by its name."""
    with Celery("control", broker=own_server.url(), set_as_current=False) as app:
        yield lambda command, name, **arguments: app.control.broadcast(command, destination=[name], arguments=arguments)


def named(worker):
    """Return the name a worker has for Celery."""
    return next(line for line in worker.log().splitlines() if " ready." in line).split()[-2]


def test_each_fault_is_noticed(make_worker, control, client, own_emulator, monkeypatch):
    """A deaf consumer is restarted; one that stays deaf ends the worker, and so does a stuck thread.

    The flights that ran are handed back and go on elsewhere.
    """
    monkeypatch.setattr("acceptance_workers.APP", "faulty_app")
    workers = {lane: make_worker("-Q", f"generate.{lane}") for lane in FAULTS}
    idle, idle_port = make_worker("-Q", "genqueue.submit")
    for worker, _ in [*workers.values(), (idle, None)]:
        worker.wait_ready()
    with own_emulator.paced(tpot=5):
        running = {lane: client.submit(f"Go on, {lane}", model=MODEL, lane=lane) for lane in FAULTS}
        own_emulator.wait(live_at_least=len(FAULTS))
    for lane, fault in FAULTS.items():
        control(fault, named(workers[lane][0]))
    control("hang_loop", named(idle))
    wait_until(lambda: "loop" in str(why_not(idle_port, "/livez")), what="a loop that is stuck")
    assert get(idle_port, "/livez")[0] == 503
    for lane in ("high", "normal"):
        wait_until(lambda lane=lane: "deaf now" in workers[lane][0].log(), what="a deaf worker")
    more = client.submit("Is somebody there?", model=MODEL, lane="high")
    client.submit("Nor here?", model=MODEL, lane="normal")
    assert more.text(timeout=20)
    (worker, port) = workers["high"]
    wait_until(lambda: metric(port, 'genqueue_consumer_restarts_total{cause="watchdog"}') == 1, what="the count")

    for stuck in (workers["normal"][0], workers["low"][0], idle):
        assert stuck.process.wait(20) == 1, stuck.log()
    for lane, word in {"normal": "give_up", "low": "hub_stuck"}.items():
        assert f"watchdog.{word}" in workers[lane][0].log()
        control("add_consumer", named(worker), queue=f"generate.{lane}.again", exchange=f"generate.{lane}.again")
        tail = [event.type for event in running[lane].tail(timeout=20)]
        assert tail.count("restarted") == 1
        assert tail[-1] == "completed"
    assert "watchdog.loop_stuck" in idle.log()
    assert worker.process.poll() is None
