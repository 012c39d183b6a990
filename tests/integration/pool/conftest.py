"""Worker processes for the pool tests, and what can be seen of them from outside."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis
from celery import Celery

HERE = Path(__file__).parent
POOL = "genqueue_worker.pool:TaskPool"
#: Seconds a condition may take on a slow machine; met at once on a fast one.
PATIENCE = 15.0


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

    def __init__(self, url, directory):
        self.url = url
        self.directory = directory
        self.store = redis.Redis.from_url(url, decode_responses=True)
        self.client = Celery("client", broker=url, backend=url, set_as_current=False)
        self.client.conf.update(
            task_default_queue="generate.normal", broker_transport_options={"priority_steps": [0]}
        )
        self.seen = []
        self._workers = []
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        self._listening.wait(PATIENCE)

    def _listen(self):
        with self.client.connection_for_read() as connection:
            receiver = self.client.events.Receiver(connection, handlers={"*": self.seen.append})
            with receiver.consumer_context() as (own_connection, _, _):
                while not self._stop.is_set():
                    with contextlib.suppress(*own_connection.connection_errors, TimeoutError):
                        own_connection.drain_events(timeout=0.1)  # the first one subscribes
                    self._listening.set()

    def start(self, *arguments, pool=POOL, concurrency=4, ready=True, **options):
        """Start a worker; returns once it consumes."""
        log = self.directory / f"worker{len(self._workers)}.log"
        environment = {
            **os.environ,
            "POOL_APP": json.dumps({"url": self.url, "pool": pool, **options}),
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, "-m", "celery", "-A", "pool_app", "worker", "-l", "info", "-n", f"w{len(self._workers)}@h"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "-c", str(concurrency), "--without-mingle", *arguments],
                env=environment,
                cwd=self.directory,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        worker = Worker(process, log, f"w{len(self._workers)}@h")
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

    def notes(self, task_id):
        """Return what the worker noted about a task."""
        return self.store.lrange(f"notes:{task_id}", 0, -1)

    def wait_note(self, task_id, note):
        """Wait until the worker noted something about a task."""
        until(lambda: note in self.notes(task_id), f"{note} noted; the worker said:\n{self._workers[-1].text[-3000:]}")

    def close(self):
        """End the workers, the listener and every connection."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()
        self._stop.set()
        self._listener.join()
        self.client.close()
        self.client.backend.client.connection_pool.disconnect()
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
def fleet(database_url, tmp_path):
    """A fleet without workers yet."""
    running = Fleet(database_url, tmp_path)
    yield running
    running.close()
