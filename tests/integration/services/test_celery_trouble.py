"""What becomes of Celery's side when a worker dies, the broker turns it away, or it is started wrongly."""

import os
import signal
import subprocess
import sys

import pytest
import redis
from acceptance_workers import wait_until
from celery import Celery

from genqueue import Client
from genqueue.lanes import SUBMIT_QUEUE, SUBMIT_TASK
from genqueue_lab.servers import RedisServer

MODEL = "gemini-2.5-flash"


@pytest.fixture
def own_data_server(server):
    """A data server apart from the broker."""
    with RedisServer(server.binary) as running:
        yield running


def jobs_of(url):
    """Return the ids of all jobs a data server has."""
    with redis.Redis.from_url(url) as raw:
        return {key.rpartition(b":")[2].decode() for key in raw.scan_iter("gq:{*}:job:*", count=1000)}


@pytest.mark.parametrize("admitted", [False, True])
def test_a_request_outlives_its_worker(start_worker, own_server, own_data_server, emulator, admitted):
    """Killed between the pop and the acknowledgement, before or after it had admitted the job: there is one job."""
    broker, data = own_server, own_data_server
    settings = {"GENQUEUE_BROKER_URL": broker.url(), "GENQUEUE_SUBMIT_REDELIVERY": 1}
    worker = start_worker(data.url(), emulator, **settings)
    app = Celery("host", broker=broker.url(), set_as_current=False)
    os.kill(data.pid, signal.SIGSTOP)
    app.send_task(SUBMIT_TASK, args=["Once?"], kwargs={"model": MODEL}, queue=SUBMIT_QUEUE)
    app.close()
    with redis.Redis.from_url(broker.url()) as raw:
        wait_until(lambda: raw.hlen("genqueue.unacked"), what="the message to be taken")
        if admitted:
            os.kill(broker.pid, signal.SIGSTOP)
            os.kill(data.pid, signal.SIGCONT)
            wait_until(lambda: jobs_of(data.url()), what="the job")
        worker.kill()
        os.kill(data.pid, signal.SIGCONT)
        os.kill(broker.pid, signal.SIGCONT)
        assert len(jobs_of(data.url())) == int(admitted)
        start_worker(data.url(), emulator, **settings)
        # The job first: between a pop and its note a message is in neither place.
        wait_until(
            lambda: jobs_of(data.url()) and not raw.exists("genqueue.unacked") and not raw.llen(SUBMIT_QUEUE),
            what="its admission",
        )
    (job,) = jobs_of(data.url())
    with Client(data_url=data.url(), broker_url=broker.url()) as client:
        assert client.job(job).text(timeout=20)


def test_a_pop_that_is_turned_away_does_not_end_the_worker(start_worker, own_server, emulator):
    """A failover answers every waiting pop with an error; the worker connects anew and goes on."""
    worker = start_worker(own_server.url(), emulator)
    with redis.Redis.from_url(own_server.url()) as raw, Client(data_url=own_server.url()) as client:
        waiting = wait_until(lambda: [one["id"] for one in raw.client_list() if one["cmd"] == "brpop"], what="a pop")
        assert raw.client_unblock(int(waiting[0]), error=True)
        wait_until(lambda: "transport.refused error=UNBLOCKED" in worker.log(), what="the reconnect")
        assert client.submit("Still there?", model=MODEL, lane="high").text(timeout=20)
    assert worker.process.poll() is None
    assert worker.stop() == 0


def test_an_outage_is_a_few_lines(start_worker, own_server, emulator):
    """Of each part of the worker one when the server goes and one when it is back, with the counts."""
    worker = start_worker(own_server.url(), emulator)
    with Client(data_url=own_server.url()) as client, emulator.paced(tpot=0.05, tokens=40):
        jobs = [client.submit(f"Question {number}", model=MODEL, lane="high", cache="off") for number in range(10)]
        for job in jobs:
            assert next(event for event in job.tail(timeout=20) if event.type == "delta")
        own_server.kill()
        wait_until(
            lambda: all(name in worker.log() for name in ("courier.away", "leases.not_renewed")), what="the lines"
        )
        own_server.start()
        for job in jobs:
            assert job.text(timeout=30)
    wait_until(lambda: "courier.back" in worker.log(), what="the end of the outage")
    assert worker.stop() == 0
    for name in (
        "courier.away",
        "courier.back",
        "leases.not_renewed",
        "leases.renewed",
        "attempt.away",
        "sweeper.away",
    ):
        assert worker.log().count(name) <= 1, name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-P", "prefork"), "-P prefork: generations are coroutines"),
        (("-P", "gevent"), "-P gevent: generations are coroutines"),
    ],
)
def test_what_does_not_suit_is_refused_at_the_start(arguments, reason):
    """With the reason, before anything is connected, and with an exit status that says so."""
    environment = {**os.environ, "GENQUEUE_DATA_URL": "redis://127.0.0.1:1/0", "GENQUEUE_GEMINI_API_KEY": "k"}
    command = [sys.executable, "-m", "celery", "-A", "genqueue_worker.app", "worker", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"error: {reason}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_settings_are_said_in_our_words_only():
    """The last line names the variable; pydantic's own error is not printed before it."""
    environment = {**os.environ, "GENQUEUE_SLOTS": "many"}
    command = [sys.executable, "-m", "celery", "-A", "genqueue_worker.app", "worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "SettingsError: GENQUEUE_SLOTS: got 'many'" in ended.stderr.strip().splitlines()[-1]
    assert "pydantic_core" not in ended.stderr
