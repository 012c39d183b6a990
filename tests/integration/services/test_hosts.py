"""The examples as services of their own, each with the servers people run, and a browser that comes and goes."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import httpx
import pytest
import redis
from acceptance_workers import wait_until

from genqueue import Client
from genqueue.events import decode

from .conftest import EXAMPLES

MODEL = "gemini-2.5-flash"
GUNICORN = ("-m", "gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:{port}")
UVICORN = ("-m", "uvicorn", "--port", "{port}", "--timeout-graceful-shutdown", "5")
#: Command of each kind of host, what it prints when it is there, and where its events are.
HOSTS = {
    "fastapi-uvicorn": ((*UVICORN, "fastapi_app:app"), "running on", "/jobs/{}/events"),
    "django-sync": ((*GUNICORN, "-k", "sync", "preloaded"), "Booting worker", "/jobs/{}/events"),
    "django-gthread": (
        (*GUNICORN, "-k", "gthread", "--threads", "4", "preloaded"),
        "Booting worker",
        "/jobs/{}/events",
    ),
    "django-gevent": (
        (*GUNICORN, "-k", "gevent", "-c", "gevent_early.py", "preloaded"),
        "Booting worker",
        "/jobs/{}/events",
    ),
    "django-asgi": (
        (*UVICORN, "--lifespan", "off", "django_app:asgi_application"),
        "running on",
        "/async/jobs/{}/events",
    ),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The Django example's database, still empty."""
    made = tmp_path_factory.mktemp("django") / "questions.db"
    environment = {**os.environ, "DJANGO_DATABASE": str(made)}
    subprocess.run([sys.executable, "django_app.py", "migrate"], cwd=EXAMPLES, env=environment, check=True)
    return made


@pytest.fixture(params=HOSTS)
def host(request, start_host, tmp_path, database):
    """One kind of host after the other, with the path of a job's events."""
    command, ready, events = HOSTS[request.param]
    environment = {"DJANGO_DATABASE": str(shutil.copy(database, tmp_path)), "HEARTBEAT": "0.2"}
    made = start_host(*command, ready=ready, **environment)
    made.events = events
    made.database = environment["DJANGO_DATABASE"] if "django" in request.param else None
    return made


@pytest.fixture
def browser(host):
    """An HTTP client of the host."""
    with httpx.Client(base_url=host.url, trust_env=False, timeout=20) as made:
        yield made


@pytest.fixture
def client(settings):
    """A client of the same deployment."""
    with Client(**settings) as made:
        yield made


def ask(browser, question):
    """Have the host submit a question."""
    return browser.post("/jobs", params={"question": question}, data={"question": question})


def accepted(browser, host, question):
    """Return the id of a question's job."""
    response = ask(browser, question)
    assert response.status_code == 200, response.text + host.log()
    return response.json()["job_id"]


def frames(response):
    """Yield the events of a stream as they come: id, type and fields."""
    fields = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])
            fields = {}


def read(browser, host, job_id, last=None, until=None, query=""):
    """Return a job's events behind the last one; drops the connection behind a text."""
    headers = {"Last-Event-ID": last} if last else {}
    seen = []
    with browser.stream("GET", host.events.format(job_id) + query, headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        for frame in frames(response):
            seen.append(frame)
            if until is not None and frame[2].get("text") == until:
                break
    return seen


def test_a_browser_comes_and_goes(host, browser, client, worker, settings):
    """Submit, stream, a lost connection, the rest: no gap and no repeat; leaving frees all; the host ends cleanly."""
    job = client.job(accepted(browser, host, "Why?"))
    shift = worker.take(job)
    shift.say("one ", "two\u2028\r\n")
    first = read(browser, host, job.id, until="two\u2028\r\n")
    assert [kind for _, kind, _ in first] == ["queued", "delta", "delta"]
    with redis.Redis.from_url(settings["data_url"]) as raw:
        bell = client._connection.keys.bell(worker.flight(job))
        wait_until(lambda: dict(raw.pubsub_numsub(bell))[bell.encode()] == 0, what="the host to hang up")
        shift.say("three ", "four")
        second = read(browser, host, job.id, last=first[-1][0], until="four")
        shift.succeed()
        third = read(browser, host, job.id, last=second[-1][0])
        stream = [decode(*entry) for entry in raw.xrange(job.stream_key)]
    assert [(one, kind, fields) for one, kind, fields in first + second + third] == [
        (event.id, event.type, dict(event.fields)) for event in stream
    ]
    assert read(browser, host, job.id, last=third[-1][0]) == []
    assert client.job(job.id).status().state == "succeeded"

    leaving = client.job(accepted(browser, host, "Will you wait?"))
    worker.take(leaving).say("no")
    read(browser, host, leaving.id, until="no", query="?cancel=1")
    wait_until(lambda: client.job(leaving.id).status().state == "cancelled", what="the cancellation")

    assert browser.get(host.events.format(job.id), headers={"Last-Event-ID": "x"}).status_code == 400
    assert browser.get(host.events.format("nonsense")).status_code == 400
    assert ask(browser, "").status_code == 400
    unknown = read(browser, host, "3-" + "0" * 20)
    assert [(kind, fields["code"]) for _, kind, fields in unknown] == [("error", "job_not_found")]
    if host.database:
        with sqlite3.connect(host.database) as database:
            assert database.execute("SELECT job_id FROM questions_question").fetchall() == [(job.id,), (leaving.id,)]
    assert host.stop() in {0, -signal.SIGTERM}  # uvicorn raises the signal again when it is done
    assert "Traceback" not in host.log()
    assert "Warning" not in host.log()
