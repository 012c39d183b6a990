"""The data server in trouble, under a worker process with jobs in flight: the same process goes on by itself."""

import shutil
import threading
import time
from pathlib import Path

import pytest
import redis
from acceptance_workers import WorkerProcess, wait_until

from genqueue import Client
from genqueue.errors import GenqueueError, QueueFull, ServerUnavailable, StreamGone
from genqueue.keys import Keys
from genqueue.lanes import QUEUES
from genqueue_lab.servers import RedisServer

MODEL = "gemini-2.5-flash"
GUIDE = Path(__file__).parents[2] / "ops" / "celery.md"

#: Saves a second of a worker's start.
ALONE = ("--without-mingle", "--without-gossip")


def rights():
    """Return the command that makes the worker's user, as the guide has it."""
    return next(line for line in GUIDE.read_text().splitlines() if line.startswith("ACL SETUSER")).split()


def begin(client, number, **options):
    """Submit jobs and wait until each shows text."""
    jobs = [client.submit(f"question {n}", model=MODEL, cache="off", **options) for n in range(number)]
    for job in jobs:
        assert next(event for event in job.tail(timeout=30) if event.type == "delta")
    return jobs


def types_of(server, job):
    """Return the types of every event of a job's stream."""
    with redis.Redis.from_url(server.url()) as raw:
        return [fields[b"type"].decode() for _, fields in raw.xrange(job.stream_key)]


def cut_everybody(raw):
    """Close the connections of all clients but this one."""
    for kind in ("normal", "pubsub"):
        raw.client_kill_filter(_type=kind, skipme=True)


def fill_its_disk(raw, server):
    """Have a snapshot fail, after which the server takes no writes."""
    (server.directory / "blocked.rdb").mkdir()
    raw.config_set("save", "3600 1")
    raw.bgsave()
    wait_until(lambda: raw.info("persistence")["rdb_last_bgsave_status"] == "err", what="the failure")


def load_anew(raw, server):
    """Have the server read its data for about a second; returns when it has."""
    raw.config_set("key-load-delay", max(1, 1_000_000 // raw.dbsize()))
    raw.config_set("loading-process-events-interval-bytes", 1024)
    with redis.Redis.from_url(server.url()) as other:
        reading = threading.Thread(target=other.execute_command, args=("DEBUG", "RELOAD"))
        reading.start()
        wait_until(lambda: raw.info("persistence")["loading"], what="the loading")
        reading.join()


@pytest.fixture
def start_worker_on(tmp_path, own_emulator):
    """Start a worker on any server; killed afterwards."""
    started = []

    def start(url, **options):
        started.append(WorkerProcess(tmp_path, url, own_emulator, arguments=ALONE, **options))
        return started[-1].start()

    yield start
    for worker in started:
        worker.kill()


def test_nothing_ends_over_a_server_that_refuses(server, own_emulator, start_worker_on):
    """Cut off, without room, with a full disk, loading: no attempt is lost, and the log says each thing once.

    The worker has the user of the guide.
    """
    config = {"enable-debug-command": "yes", "dbfilename": "blocked.rdb"}
    with RedisServer(server.binary, config=config) as own, redis.Redis.from_url(own.url()) as raw:
        raw.execute_command(*rights())
        url = own.url().replace("://", "://genqueue:secret@")
        worker = start_worker_on(url)
        own_emulator.set(ttft=0.05, tpot=0.05, tokens=80)
        with Client(data_url=url) as client:
            jobs = begin(client, 20)

            cut_everybody(raw)
            wait_until(lambda: "leases.heard" in worker.log(), what="the worker's return")

            raw.config_set("maxclients", 2)
            cut_everybody(raw)
            wait_until(lambda: "max number of clients" in worker.log(), what="the refusal")
            raw.config_set("maxclients", 1000)

            fill_its_disk(raw, own)
            wait_until(lambda: "MISCONF" in worker.log(), what="the refusal")
            with pytest.raises(ServerUnavailable, match="MISCONF"):
                client.submit("new", model=MODEL)
            raw.config_set("save", "")
            (own.directory / "blocked.rdb").rmdir()

            load_anew(raw, own)

            assert {job.result(timeout=60).attempts for job in jobs} == {1}
            assert client.submit("afterwards", model=MODEL).text(timeout=30)
        for job in jobs:
            types = types_of(own, job)
            assert (types.count("completed"), types[-1], "restarted" in types) == (1, "completed", False)
        denied = [(entry["reason"], entry["object"]) for entry in raw.acl_log()]
    assert worker.process.poll() is None
    assert denied == []
    assert "Traceback" not in worker.log()
    assert worker.log().count("WARNING") < 40, worker.log()


def test_memory_that_runs_out_and_a_server_that_comes_back_empty(own_server, own_emulator, start_worker_on):
    """Full: what was accepted goes on, what was not published is when there is room. Empty: it is served anew."""
    worker = start_worker_on(own_server.url(), slots=10, GENQUEUE_SWEEP_SLACK=1)
    own_emulator.set(ttft=0.05, tpot=0.05, tokens=40)
    with Client(data_url=own_server.url()) as client, redis.Redis.from_url(own_server.url()) as raw:
        raw.setrange("ballast", 32 * 2**20, "x")
        jobs = begin(client, 10)
        waiting = [client.submit(f"lost {lane}", model=MODEL, lane=lane) for lane in ("high", "low")]
        raw.config_set("maxmemory", raw.info("memory")["used_memory"] - 2**20)
        raw.delete(*QUEUES)
        for lane in ("low", "normal", "high"):
            with pytest.raises(QueueFull):
                client.submit(f"new {lane}", model=MODEL, lane=lane)
        jobs[0].cancel()
        cut_everybody(raw)  # the consumer connects anew, which takes no memory
        assert all(job.text(timeout=30) for job in jobs[1:])
        wait_until(lambda: "dispatch.failed" in worker.log(), what="a message that nobody takes")
        assert [job.status().state for job in waiting] == ["queued", "queued"]
        raw.config_set("maxmemory", 0)
        assert all(job.text(timeout=30) for job in waiting)
    goes_on_with_an_empty_server(own_server, own_emulator, worker)
    assert worker.process.poll() is None
    assert "Traceback" not in worker.log()
    assert worker.log().count("WARNING") < 40, worker.log()


def goes_on_with_an_empty_server(server, emulator, worker):
    """Replace the server; attempts stop, readers are told, the worker makes the deployment anew and works."""
    with Client(data_url=server.url()) as client:
        emulator.set(ttft=0.05, tpot=0.05, tokens=1000)
        jobs = begin(client, 10)
        server.kill()
        shutil.rmtree(server.directory)
        server.start()
        with pytest.raises(StreamGone):
            list(jobs[0].tail(timeout=30))
        began = time.monotonic()
        emulator.wait(timeout=10, live_at_most=0, cancelled_at_least=10)
        assert time.monotonic() - began < 3
        with redis.Redis.from_url(server.url(), decode_responses=True) as raw:
            raw.delete(Keys().meta())  # a reader may have been first
            made = wait_until(lambda: raw.hgetall(Keys().meta()), what="the deployment")
            assert made == {"partitions": str(Keys().partitions), "schema": "1"}
        emulator.set(ttft=0.02, tpot=0.002, tokens=20)
        assert client.submit("afterwards", model=MODEL).text(timeout=30)
        with pytest.raises(GenqueueError):
            jobs[1].result(timeout=5)
