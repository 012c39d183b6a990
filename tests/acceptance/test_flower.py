"""What an operator sees and does in Flower, with a real worker: workers, tasks, remote control, and no prompts."""

import os
import secrets
import subprocess
import sys
import time

import httpx
import pytest
from acceptance_workers import WorkerProcess, wait_until

from genqueue import Client, JobFailed
from genqueue.errors import JobCancelled
from genqueue.lanes import QUEUES, SUBMIT_QUEUE, SUBMIT_TASK, TASK
from genqueue_lab.emulator import EmulatorProcess, Options, Pace
from genqueue_lab.servers import RedisServer, free_port

MODEL = "gemini-3-pro-preview"
SLOTS = 2
API_KEY = f"key-{secrets.token_hex(8)}"
PASSWORD = secrets.token_hex(8)
#: Every place of Flower that shows tasks, workers or queues.
PAGES = ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers?refresh=1", "/api/queues/length")


class Watched:
    """A server, an emulator, a worker with two slots, and Flower in front of them."""

    def __init__(self, directory, url, emulator):
        self.emulator = emulator
        self.worker = WorkerProcess(directory, url, emulator, slots=SLOTS, GENQUEUE_GEMINI_API_KEY=API_KEY)
        self.flower_log = directory / "flower.log"
        self.url = url
        port = free_port()
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", auth=("operator", PASSWORD), trust_env=False, timeout=15
        )
        self.flower_command = [sys.executable, "-m", "celery", "-A", "genqueue_worker.app", "flower"]
        self.flower_environment = {
            **os.environ,
            "GENQUEUE_DATA_URL": url,
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": str(port),
            "FLOWER_BASIC_AUTH": f"operator:{PASSWORD}",
        }
        self.flower = None

    def start(self):
        """Start both and return once Flower knows the worker."""
        with self.flower_log.open("wb") as output:
            self.flower = subprocess.Popen(
                self.flower_command, env=self.flower_environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.worker.start()
        wait_until(lambda: "Connected to" in self.flower_log.read_text(), what="Flower's start")
        wait_until(self._knows_the_worker, what="the worker in Flower")
        return self

    def _knows_the_worker(self):
        return any("stats" in seen for seen in self.get("/api/workers?refresh=1").values())

    def stop(self):
        """End both."""
        self.api.close()
        for process in (self.flower, self.worker.process):
            if process is not None:
                process.kill()
                process.wait()

    def get(self, path):
        """Return what Flower's API answers."""
        return self.api.get(path).raise_for_status().json()

    def post(self, path):
        """Have Flower's API do something."""
        return self.api.post(path).raise_for_status().json()

    def inspected(self):
        """Return the worker's name and what it answers when it is inspected."""
        name = next(iter(self.get("/api/workers")))
        return name, self.get(f"/api/workers?refresh=1&workername={name}")[name]

    def waiting(self):
        """Return how many messages wait in each queue."""
        return {queue["name"]: queue["messages"] for queue in self.get("/api/queues/length")["active_queues"]}

    def task(self, job, state):
        """Wait until Flower shows a job's task in a state and return it."""
        flight = job.stream_key.rpartition(":")[2]

        def shown():
            tasks = self.get(f"/api/tasks?state={state}").values()
            return next((task for task in tasks if flight in task["args"]), None)

        return wait_until(shown, what=f"{state} in Flower")


@pytest.fixture(scope="module")
def watched(server, tmp_path_factory):
    """A worker and Flower, running."""
    with RedisServer(server.binary) as own, EmulatorProcess(Options(pace=Pace(ttft=0.05, tpot=0.002))) as emulator:
        running = Watched(tmp_path_factory.mktemp("flower"), own.url(), emulator)
        try:
            yield running.start()
        finally:
            running.stop()


@pytest.fixture
def client(watched):
    """A producer on the same server."""
    with Client(data_url=watched.url) as made:
        yield made


def first_text(job):
    """Wait for the first piece of a job's answer."""
    return next(event.text for event in job.tail(timeout=20) if event.type == "delta")


def test_worker_is_shown_with_its_queues_and_pool(watched):
    """Flower shows every lane's queues, our pool and its slots, on the API and on the worker's page."""
    name, worker = watched.inspected()
    assert {queue["name"] for queue in worker["active_queues"]} == {*QUEUES, SUBMIT_QUEUE}
    assert {queue["exchange"]["name"] for queue in worker["active_queues"]} == {*QUEUES, SUBMIT_QUEUE}
    assert worker["stats"]["pool"]["implementation"] == "genqueue_worker.pool:TaskPool"
    assert worker["stats"]["pool"]["max-concurrency"] == SLOTS
    assert sorted(worker["registered"]) == [TASK, SUBMIT_TASK]
    assert name in watched.api.get("/workers").text
    page = watched.api.get(f"/worker/{name}")
    assert page.status_code == 200
    assert "generate.high.again" in page.text


def test_tasks_are_shown_with_real_runtimes(watched, client):
    """A task is shown while it runs, and afterwards with the time that the answer took."""
    with watched.emulator.paced(ttft=0.3, tpot=0.02, tokens=50):
        before = time.monotonic()
        job = client.submit("How long does it take?", model=MODEL, lane="high")
        running = watched.task(job, "STARTED")
        finished = watched.task(job, "SUCCESS")
        elapsed = time.monotonic() - before
    assert running["runtime"] is None
    assert finished["uuid"] == running["uuid"]
    assert finished["name"] == TASK
    assert finished["result"] == "'succeeded'"
    assert 0.3 + 0.02 * 49 <= finished["runtime"] <= elapsed
    assert finished["runtime"] <= job.result(timeout=5).timings["total"] + 0.5


def test_no_prompt_is_shown_or_logged(watched, client):
    """Neither a prompt, nor an answer, nor the provider's key is anywhere in Flower or in a log: only ids."""
    marker = f"marker{secrets.token_hex(8)}"
    done = client.submit(f"Tell me about {marker}", model=MODEL, lane="low", system_instruction=f"Be {marker}")
    answer = done.text(timeout=20)
    failed = client.submit(f"Tell me about {marker}", model="no-such-model", lane="normal")
    with pytest.raises(JobFailed):
        failed.result(timeout=20)
    with watched.emulator.paced(tpot=5):
        running = client.submit(f"Tell me more about {marker}", model=MODEL, lane="high")
        first_text(running)
        tasks = [watched.task(done, "SUCCESS"), watched.task(failed, "SUCCESS"), watched.task(running, "STARTED")]
        name, inspected = watched.inspected()
        paths = [path for task in tasks for path in (f"/task/{task['uuid']}", f"/api/task/info/{task['uuid']}")]
        table = "/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0&columns[0][data]=name"
        served = [watched.api.get(path) for path in (*PAGES, *paths, f"/worker/{name}", table)]
        running.cancel()
    assert all(response.status_code == 200 for response in served)
    assert [running.stream_key.rpartition(":")[2] in task["args"] for task in inspected["active"]] == [True]
    texts = [
        *(response.text for response in served),
        str(inspected),
        watched.worker.log(),
        watched.flower_log.read_text(),
    ]
    for secret in (marker, answer[:40], API_KEY, PASSWORD):
        assert not [text for text in texts if secret in text], secret


def test_revoke_ends_the_running_job(watched, client):
    """Revoking with terminate ends the job as cancelled and the provider's stream at once; the worker goes on."""
    watched.emulator.reset_stats()
    with watched.emulator.paced(tpot=5):
        job = client.submit("Never mind", model=MODEL, lane="high")
        first_text(job)
        task = watched.task(job, "STARTED")
        watched.post(f"/api/task/revoke/{task['uuid']}?terminate=true")
        with pytest.raises(JobCancelled):
            job.result(timeout=10)
        watched.emulator.wait(cancelled_at_least=1, live_at_most=0)
    assert [event.type for event in job.tail()][-1] == "cancelled"
    assert watched.task(job, "REVOKED")["uuid"] == task["uuid"]
    assert client.submit("And now?", model=MODEL, lane="high").text(timeout=20)


def test_revoke_ends_a_job_wherever_it_is(watched, client):
    """Streaming, waiting or queued; by an earlier message's id too; Flower says REVOKED; others go on."""
    emulator = watched.emulator
    emulator.reset_stats()
    rule = emulator.fault("status", match="Too busy", status=429, retry_after=60)
    try:
        with emulator.paced(tpot=5):
            waiting = client.submit("Too busy", model=MODEL, lane="high")
            assert next(event for event in waiting.tail(timeout=20) if event.type == "waiting")
            running = [client.submit(f"Job {number}", model=MODEL, lane="high") for number in range(SLOTS)]
            emulator.wait(live_at_least=SLOTS)
            queued, next_one = [client.submit(f"Later {number}", model=MODEL, lane="high") for number in range(2)]
            flight = queued.status().flight
            tasks = [queued.status().task_id, waiting.status().task_id, running[0].status().task_id]
            for task in (f"{flight}.1", *tasks):
                watched.post(f"/api/task/revoke/{task}")
            for job in (queued, waiting, running[0]):
                with pytest.raises(JobCancelled):
                    job.result(timeout=5)
            emulator.wait(cancelled_at_least=1)  # the provider's stream is cut
            assert first_text(next_one)
            for task in (tasks[0], tasks[2]):  # the other message was a success: it ended in waiting
                wait_until(
                    lambda task=task: watched.get(f"/api/task/info/{task}")["state"] == "REVOKED",
                    what="REVOKED in Flower",
                )
            assert not running[1].status().ended
            assert queued.status().task_id == tasks[0]  # it was not published again
            for job in (running[1], next_one):
                job.cancel()
            emulator.wait(live_at_most=0)
    finally:
        emulator.clear_faults(rule)
    assert client.submit("And now?", model=MODEL, lane="high").text(timeout=20)


def test_pool_grows_and_shrinks(watched, client):
    """Growing the pool starts waiting jobs at once; shrinking it holds the next ones back."""
    emulator = watched.emulator
    emulator.reset_stats()
    name, _ = watched.inspected()
    with emulator.paced(tpot=5):
        jobs = [client.submit(f"Job {number}", model=MODEL, lane="normal") for number in range(SLOTS + 2)]
        emulator.wait(live_at_least=SLOTS)
        watched.post(f"/api/worker/pool/grow/{name}?n=1")
        assert emulator.wait(live_at_least=SLOTS + 1)["totals"]["live"] == SLOTS + 1
        watched.post(f"/api/worker/pool/shrink/{name}?n={SLOTS}")
        assert watched.inspected()[1]["stats"]["pool"]["max-concurrency"] == 1
        for job in jobs[: SLOTS + 1]:
            job.cancel()
        emulator.wait(live_at_most=1, cancelled_at_least=SLOTS + 1)
        emulator.wait(live_at_least=1)
        jobs.append(client.submit("One more", model=MODEL, lane="high"))
        assert watched.inspected()[1]["stats"]["pool"]["running"] == 1
        assert watched.waiting()["generate.high"] == 1
        jobs[-2].cancel()
        assert first_text(jobs[-1])
        jobs[-1].cancel()
        emulator.wait(live_at_most=0)
    watched.post(f"/api/worker/pool/grow/{name}?n={SLOTS - 1}")
    assert watched.inspected()[1]["stats"]["pool"]["max-concurrency"] == SLOTS
