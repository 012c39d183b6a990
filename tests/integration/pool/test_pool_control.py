"""Remote control and Flower see and steer the pool as any other."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode

import pytest

from genqueue_lab.servers import free_port

NAME = "genqueue_worker.pool:TaskPool"


def ask(fleet, command, **arguments):
    """Send a remote control command and return the worker's answer."""
    (answer,) = fleet.client.control.broadcast(command, arguments=arguments, reply=True, timeout=10, limit=1)
    return next(iter(answer.values()))


def test_remote_control(fleet):
    """Ping, inspect, revoke, grow, shrink and time limits answer and act."""
    fleet.start(concurrency=2)
    assert ask(fleet, "ping") == {"ok": "pong"}
    first, second = fleet.send("hold", "go"), fleet.send("hold", "go")
    third = fleet.send("hold", "go")
    for task in (first, second):
        fleet.wait_for(task, "started")
    assert {task["id"] for task in ask(fleet, "active")} == {first, second}
    assert ask(fleet, "reserved") == []
    pool = ask(fleet, "stats")["pool"]
    assert (pool["implementation"], pool["max-concurrency"], pool["running"]) == (NAME, 2, 2)

    ask(fleet, "pool_grow", n=1)
    fleet.wait_for(third, "started")  # the slot that was gained is used at once
    ask(fleet, "pool_shrink", n=2)
    assert ask(fleet, "stats")["pool"]["max-concurrency"] == 1

    ask(fleet, "revoke", task_id=first, terminate=True)
    fleet.wait_for(first, "revoked")
    fleet.wait_note(first, "cancelled:revoked:revoked")
    ask(fleet, "time_limit", task_name="t.nap", soft=0.1, hard=20)
    nap = fleet.send("nap", 30)
    fleet.store.set("go", 1)
    assert "SoftTimeLimitExceeded" in fleet.wait_for(nap, "failed")["exception"]


@contextlib.contextmanager
def flower(fleet):
    """Run Flower with a password on the loopback interface; gives a function that gets JSON from its API."""
    port = free_port()
    environment = {**os.environ, "POOL_APP": json.dumps({"url": fleet.url, "pool": NAME}), "PYTHONPATH": fleet.app}
    arguments = ["--address=127.0.0.1", f"--port={port}", "--basic-auth=ops:secret"]
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "pool_app", "flower", *arguments]
    with (fleet.directory / "flower.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=fleet.directory, stdout=log, stderr=log)

    def get(path, user="ops:secret"):
        headers = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)) as page:
            return json.load(page)

    def answers():
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return get("/api/workers") is not None

    try:
        fleet.until(answers, "Flower answers")
        yield get
    finally:
        process.terminate()
        process.wait()


def test_flower_shows_the_worker_its_queues_and_its_tasks(fleet):
    """Running and finished tasks are listed with their runtime, the worker with its pool and queues."""
    worker = fleet.start("-Q", "generate.high,generate.normal")
    with flower(fleet) as get:
        shown = fleet.until(lambda: get("/api/workers?refresh=1").get(worker.name), "the worker is shown")
        assert shown["stats"]["pool"]["implementation"] == NAME
        assert {queue["name"] for queue in shown["active_queues"]} == {"generate.high", "generate.normal"}
        done, held = fleet.send("nap", 0.1), fleet.send("hold", "go", queue="generate.high")
        fleet.wait_for(done, "succeeded")
        fleet.wait_for(held, "started")
        fleet.until(lambda: {done, held} <= get("/api/tasks").keys(), "both tasks are shown")
        fleet.until(lambda: get("/api/tasks")[done]["state"] == "SUCCESS", "the end of one is shown")
        tasks = get("/api/tasks")
        assert 0.1 <= tasks[done]["runtime"] < 5
        assert tasks[held]["state"] == "STARTED"
        with pytest.raises(urllib.error.HTTPError, match="401") as refusal:
            get("/api/workers", user="ops:wrong")
        refusal.value.close()
