"""The same tasks under Celery's own pools and under ours: the same events, signals, hooks and results."""

import contextlib
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from genqueue_lab.servers import RedisServer

OURS = "genqueue_worker.pool:TaskPool"

#: Fields of events that differ from run to run.
UNSTABLE = {"uuid", "timestamp", "local_received", "clock", "pid", "hostname", "utcoffset", "root_id"}

#: Fields of which only the presence counts.
PRESENT = {"traceback", "runtime", "eta", "expires"}

#: Name: task, arguments, last event.
CASES = {
    "success": ("echo", [{"a": 1}], "succeeded"),
    "request": ("who", [1, "two"], "succeeded"),
    "failure": ("boom", [], "failed"),
    "announced failure": ("expected", [], "failed"),
    "unpicklable failure": ("unpicklable", [], "failed"),
    "wrong arguments": ("boom", [1], "failed"),
    "retry": ("again", [1], "succeeded"),
    "retries exhausted": ("again", [9], "failed"),
    "reject": ("reject", [], "failed"),
    "reject, acknowledged late": ("reject_late", [], "rejected"),
    "reject and requeue": ("requeue", [], "succeeded"),
    "ignore": ("ignore", [], "started"),
    "started is stored": ("tracked", [], "succeeded"),
    "hooks of a success": ("hooked", ["well"], "succeeded"),
    "hooks of a failure": ("hooked", ["fail"], "failed"),
    "hooks of a retry": ("hooked", ["retry"], "succeeded"),
    "plain function": ("plain", [1], "succeeded"),
    "unserializable result": ("lock", [], "failed"),
    "unknown task": ("nowhere", [], "failed"),
}

#: The same for what only a pool that can interrupt its tasks does; Celery's is prefork.
INTERRUPTIONS = {
    "soft limit": ("nap", [30], {"soft_time_limit": 0.2, "time_limit": 20}, "failed"),
    "soft limit caught": ("nap", [30, "caught"], {"soft_time_limit": 0.2, "time_limit": 20}, "succeeded"),
    "hard limit": ("nap", [30], {"time_limit": 0.3}, "failed"),
    "revoked while it runs": ("nap", [30], {}, "revoked"),
}

#: How prefork announces a hard limit for the second time, when it has reaped the process; we do not.
REAPED = "ExceptionWithTraceback()"


@pytest.fixture(scope="module")
def fleets(make_fleet):
    """One server and worker per pool, all started at once."""
    with (
        RedisServer(os.environ.get("GENQUEUE_TEST_SERVER")) as server,
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor() as executor,
    ):
        made = {pool: make_fleet(server.url(number)) for number, pool in enumerate(["threads", "prefork", OURS])}
        for fleet in made.values():
            stack.callback(fleet.close)
        list(executor.map(lambda pool: made[pool].start(pool=pool, notes=True), made))
        yield made


def shape(event):
    """Return what must be equal in an event."""
    fields = {name: value for name, value in event.items() if name not in UNSTABLE}
    return {name: bool(value) if name in PRESENT else value for name, value in fields.items()}


def observe(fleet, task_id):
    """Return everything seen of a finished task."""
    return {
        "events": [shape(event) for event in fleet.events(task_id)],
        "notes": fleet.notes(task_id),
        "result": fleet.result(task_id),
    }


def renamed(things, *task_ids):
    """Return what was seen with the ids of tasks replaced by their place."""
    text = json.dumps(things)
    for place, task_id in enumerate(task_ids):
        text = text.replace(task_id, f"task {place}")
    return json.loads(text)


def settled(fleet, task_id, ending):
    """Wait for the last event and signal of a task."""
    event = fleet.wait_for(task_id, ending)
    if ending != "revoked" and event.get("exception") != "NotRegistered('t.nowhere')":
        fleet.until(lambda: any("signal:postrun" in note for note in fleet.notes(task_id)), f"postrun {task_id}")
    return task_id


@pytest.mark.parametrize("case", CASES)
def test_equals_the_threads_pool(fleets, case):
    """Events in order with their fields, signals and hooks in order, and the stored result are the same."""
    name, arguments, ending = CASES[case]
    seen = []
    for pool in ("threads", OURS):
        fleet = fleets[pool]
        task_id = fleet.send(name, *arguments, task_id=str(uuid.uuid4()))
        settled(fleet, task_id, ending)
        fleet.until(lambda fleet=fleet: not fleet.store.hlen("unacked"), "it is acknowledged")
        things = observe(fleet, task_id)
        if "retr" in case or "requeue" in case:  # the next try may start before the end of the last is announced
            things = {**things, "events": sorted(things["events"], key=str), "notes": sorted(things["notes"])}
        seen.append(renamed(things, task_id))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("kind", ["link", "link_error", "chain", "chord"])
def test_what_follows_a_task_equals_the_threads_pool(fleets, kind):
    """Linked callbacks, errbacks, the next step of a chain and the body of a chord run with the same lineage."""
    seen = []
    for pool in ("threads", OURS):
        fleet = fleets[pool]
        first, second = str(uuid.uuid4()), str(uuid.uuid4())
        task = fleet.client.signature("t.boom" if kind == "link_error" else "t.echo", queue="generate.normal")
        follower = fleet.client.signature("t.parents", queue="generate.normal", task_id=second)
        if kind == "link":
            task.clone(args=[1]).apply_async(task_id=first, link=follower)
        elif kind == "link_error":
            task.apply_async(task_id=first, link_error=follower.clone(immutable=True))
        elif kind == "chain":
            (task.clone(args=[1]).set(task_id=first) | follower).apply_async()
        else:
            fleet.send("fan", first, second, task_id="fan")
        settled(fleet, first, "failed" if kind == "link_error" else "succeeded")
        settled(fleet, second, "succeeded")
        seen.append(renamed([observe(fleet, first), observe(fleet, second)], first, second))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("case", INTERRUPTIONS)
def test_interruptions_equal_the_prefork_pool(fleets, case):
    """Time limits and revoke(terminate=True) are announced in the same way, though no process is killed."""
    name, arguments, options, ending = INTERRUPTIONS[case]
    seen = []
    for pool in ("prefork", OURS):
        fleet = fleets[pool]
        task_id = fleet.send(name, *arguments, task_id=str(uuid.uuid4()), **options)
        if ending == "revoked":
            fleet.wait_for(task_id, "started")
            fleet.client.control.revoke(task_id, terminate=True)
        fleet.wait_for(task_id, ending)
        fleet.until(lambda fleet=fleet: not fleet.store.hlen("unacked"), "it is acknowledged")
        things = observe(fleet, task_id)
        # A killed process runs no more code of the task; a cancelled coroutine says why and ends orderly.
        things["notes"] = [note for note in things["notes"] if "postrun" not in note and "cancelled:" not in note]
        if case == "hard limit":
            things["notes"] = list(dict.fromkeys(things["notes"]))
            things["events"] = [
                event for event in things["events"] if "ExceptionWith" not in event.get("exception", "")
            ]
        seen.append(renamed(things, task_id))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("case", ["revoked", "expired"])
def test_a_task_revoked_or_expired_before_it_starts_never_runs(fleets, case):
    """The message is dropped with the same event as under the threads pool."""
    seen = []
    for pool in ("threads", OURS):
        fleet = fleets[pool]
        task_id = str(uuid.uuid4())
        options = {"expires": datetime(2020, 1, 1, tzinfo=UTC)} if case == "expired" else {}
        if case == "revoked":
            fleet.client.control.revoke(task_id, reply=True, timeout=5, limit=1)
        fleet.send("echo", 1, task_id=task_id, **options)
        fleet.wait_for(task_id, "revoked")
        seen.append(renamed(observe(fleet, task_id), task_id))
    assert seen[1] == seen[0]


def test_a_task_that_raises_systemexit_fails_alone(fleets):
    """The worker and its other tasks go on."""
    fleet = fleets[OURS]
    failed, other = fleet.send("leave"), fleet.send("nap", 0.2)
    assert "SystemExit" in fleet.wait_for(failed, "failed")["exception"]
    assert fleet.wait_for(other, "succeeded")


def test_the_runtime_is_that_of_the_coroutine(fleets):
    """Flower's runtime column is right."""
    fleet = fleets[OURS]
    assert 0.2 <= fleet.wait_for(fleet.send("nap", 0.2), "succeeded")["runtime"] < 2


def test_keyword_arguments_that_are_none_fail_the_task_alone(fleets):
    """The failure holds no slot, and the worker goes on."""
    fleet = fleets[OURS]
    task_id = str(uuid.uuid4())
    with fleet.client.connection_for_write() as connection, connection.Producer() as producer:
        producer.publish(
            [[1], [2], {}],
            exchange="generate.normal",
            routing_key="generate.normal",
            headers={"task": "t.echo", "id": task_id, "root_id": task_id, "parent_id": None, "group": None},
            correlation_id=task_id,
        )
    fleet.wait_for(task_id, "failed")
    fleet.until(lambda: fleet.stats()["pool"]["running"] == 0, "its slot is free")
    assert fleet.wait_for(fleet.send("echo", 1), "succeeded")
