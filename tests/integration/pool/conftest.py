"""Worker processes for the pool tests, and what can be seen of them from outside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

HERE = Path(__file__).parent
POOL = "genqueue_worker.pool:TaskPool"
#: Seconds a condition may take on a slow machine; met at once on a fast one.
PATIENCE = 40.0


def until(condition, what, patience=PATIENCE):
    """Return the first true value of a condition; fail after `patience` seconds."""
    give_up = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > give_up:
            pytest.fail(f"not within {patience} s: {what}")
        time.sleep(0.01)
    return value


class Fleet:
    """A broker database, a client of it, the events seen on it and the workers that run on it."""

    until = staticmethod(until)
    app = str(HERE)

    def __init__(self, url, directory):
        self.url = url
        self.directory = directory
        self.store = redis.Redis.from_url(url, decode_responses=True)
        self.client = Celery("client", broker=url, set_as_current=False)
        self.client.conf.update(task_default_queue="generate.normal", broker_transport_options={"priority_steps": [0]})
        self.seen = []
        self._workers = []
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        self._listening.wait(PATIENCE)

    def _listen(self):
        while not self._stop.wait(0.01):
            lost = (OperationalError, *self.client.connection().connection_errors)
            with contextlib.suppress(*lost), self.client.connection() as given:
                receiver = self.client.events.Receiver(given, handlers={"*": self.seen.append})
                with receiver.consumer_context() as (connection, _, _):
                    while not self._stop.is_set():
                        with contextlib.suppress(TimeoutError):
                            connection.drain_events(timeout=0.1)  # the first one subscribes
                        self._listening.set()

    def start(self, *arguments, pool=POOL, concurrency=4, ready=True, **options):
        """Start a worker; returns once it consumes."""
        log = self.directory / f"worker{len(self._workers)}.log"
        environment = {
            **os.environ,
            "POOL_APP": json.dumps({"url": self.url, "pool": pool, **options}),
            "PYTHONPATH": self.app,
            "PYTHONWARNINGS": "ignore",
        }
        name = f"w{len(self._workers)}@h"
        command = [sys.executable, "-m", "celery", "-A", "pool_app", "worker", "-l", "info", "-n", name]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "-c", str(concurrency), "--without-mingle", *arguments],
                env=environment,
                cwd=self.directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that prefork's children end with it
            )
        worker = Worker(process, log, name)
        self._workers.append(worker)
        if ready:
            until(lambda: " ready." in worker.text or process.poll() is not None, "the worker is ready")
            assert process.poll() is None, worker.text
        return worker

    def send(self, name, *args, queue="generate.normal", **options):
        """Publish a task and return its id."""
        return self.client.send_task(f"t.{name}", args=args, queue=queue, **options).id

    def events(self, task_id):
        """Return the events seen of a task, oldest first."""
        return [event for event in list(self.seen) if event.get("uuid") == task_id]

    def types(self, task_id):
        """Return the types of the events seen of a task, without their `task-`."""
        return [event["type"].removeprefix("task-") for event in self.events(task_id)]

    def wait_for(self, task_id, kind):
        """Return the first event of a type seen of a task."""
        return until(
            lambda: next((event for event in self.events(task_id) if event["type"] == f"task-{kind}"), None),
            f"task-{kind}; the worker said:\n{self._workers[-1].text[-3000:]}",
        )

    def result(self, task_id):
        """Return what the result backend keeps of a task, without times; None when it keeps nothing."""
        kept = json.loads(self.store.get(f"celery-task-meta-{task_id}") or "null")
        unstable = {"worker": "", "group_id": "", "date_done": "", "traceback": bool(kept and kept["traceback"])}
        return kept and {**kept, **unstable}

    def notes(self, task_id):
        """Return what the worker noted about a task."""
        return self.store.lrange(f"notes:{task_id}", 0, -1)

    def wait_note(self, task_id, note):
        """Wait until the worker noted something about a task."""
        until(lambda: note in self.notes(task_id), f"{note} noted; the worker said:\n{self._workers[-1].text[-3000:]}")

    def stats(self):
        """Return what the (one) worker says of itself."""
        return next(iter(self.client.control.inspect(timeout=5, limit=1).stats().values()))

    def close(self):
        """End the workers, the listener and every connection."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        self._stop.set()
        self._listener.join()
        self.client.close()
        self.store.close()


class Worker:
    """One worker process."""

    def __init__(self, process, log, name):
        self.process = process
        self.log = log
        self.name = name

    @property
    def text(self):
        """What it logged so far."""
        return self.log.read_text(errors="replace")

    def stop(self, number):
        """Send a signal."""
        self.process.send_signal(number)

    def exit_status(self, patience=PATIENCE):
        """Wait for its end and return its status."""
        return self.process.wait(patience)


@pytest.fixture(scope="session")
def make_fleet(tmp_path_factory):
    """Make a fleet on a broker; the caller closes it."""
    return lambda url: Fleet(url, tmp_path_factory.mktemp("fleet"))


@pytest.fixture
def fleet(database_url, make_fleet):
    """A fleet without workers yet."""
    with contextlib.closing(make_fleet(database_url)) as running:
        yield running
