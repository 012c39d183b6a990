"""Jobs from whoever speaks Celery, by the task `genqueue.submit`, on a real worker."""

import base64
import json
import re
import uuid

import pytest
import redis
from acceptance_workers import WorkerProcess, wait_until
from celery import Celery, chain, chord, group, signature
from celery.exceptions import TaskRevokedError
from click.testing import CliRunner

from genqueue import Client
from genqueue.cli import main
from genqueue.errors import JobCancelled
from genqueue.lanes import SUBMIT_QUEUE, SUBMIT_TASK, TASK
from genqueue_lab.servers import RedisServer

MODEL = "gemini-2.5-flash"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = {"model": MODEL, "lane": "high"}


@pytest.fixture(scope="module")
def own_broker(server):
    """A server for this module's worker: data in one database, results in the next."""
    with RedisServer(server.binary) as running:
        yield running


@pytest.fixture(scope="module")
def worker(own_broker, emulator, tmp_path_factory):
    """A worker as `celery -A genqueue_worker.app worker -Q generate.high -c 200` starts it."""
    made = WorkerProcess(
        tmp_path_factory.mktemp("worker"),
        own_broker.url(),
        emulator,
        slots=200,
        arguments=("-Q", "generate.high", "--without-mingle", "--without-gossip"),
        GENQUEUE_RESULT_BACKEND=own_broker.url(1),
        GENQUEUE_SUBMIT_REDELIVERY=1,
        GENQUEUE_SWEEP_SLACK=0.5,
    )
    yield made.start()
    made.kill()


@pytest.fixture
def app(worker, own_broker):
    """Somebody's Celery app, which knows nothing of genqueue."""
    made = Celery("host", broker=own_broker.url(), backend=own_broker.url(1), set_as_current=False)
    yield made
    # Celery leaves the connections of its results to the garbage collector, and a result that is collected later would
    # try for 20 s to say goodbye to a server that is no more.
    made.backend.result_consumer.stop()
    made.backend.result_consumer._pubsub = None
    made.backend.client.close()
    made.backend.client.connection_pool.disconnect()
    made.close()


@pytest.fixture
def client(own_broker):
    """A client of the same deployment."""
    with Client(data_url=own_broker.url()) as made:
        yield made


@pytest.fixture
def raw(own_broker):
    """A connection to the broker."""
    with redis.Redis.from_url(own_broker.url()) as made:
        yield made


def submit(app, contents, **options):
    """Send a request as a stock client does."""
    return app.send_task(SUBMIT_TASK, args=[contents], kwargs={**ASKED, **options}, queue=SUBMIT_QUEUE)


def test_the_command_line_of_celery_people(worker, app):
    """-Q takes the lane, its `again` queue and requests to admit; -c is the number of slots."""
    name, queues = next(iter(app.control.inspect(timeout=5, limit=1).active_queues().items()))
    assert {queue["name"] for queue in queues} == {"generate.high", "generate.high.again", SUBMIT_QUEUE}
    stats = app.control.inspect([name], timeout=5, limit=1).stats()[name]
    assert stats["pool"]["max-concurrency"] == 200
    assert stats["pool"]["implementation"] == "genqueue_worker.pool:TaskPool"
    assert stats["broker"]["transport"] == "genqueue_worker.transport:Transport"


def test_a_stock_client_gets_the_job(app, client, raw):
    """Its result is where the answer will be; the message is acknowledged and nothing of it is left."""
    told = submit(app, "What is a queue?").get(timeout=20)
    assert set(told) == {"job_id", "stream_key", "leave_mark"}
    job = client.job(told["job_id"])
    assert job.stream_key == told["stream_key"]
    assert job.text(timeout=20)
    wait_until(
        lambda: not raw.exists("genqueue.unacked", "genqueue.unacked_index", "unacked"), what="the acknowledgement"
    )


def message_of_another_language(task_id, **asked):
    """Return a message as celery-node, gocelery and others put it together."""
    body = base64.b64encode(json.dumps([[], asked, {"callbacks": None, "errbacks": None, "chain": None}]).encode())
    properties = {
        "body_encoding": "base64",
        "correlation_id": task_id,
        "delivery_info": {"exchange": "", "routing_key": SUBMIT_QUEUE},
        "delivery_mode": 2,
        "delivery_tag": str(uuid.uuid4()),
        "priority": 0,
        "reply_to": str(uuid.uuid4()),
    }
    headers = {"lang": "js", "task": SUBMIT_TASK, "id": task_id, "root_id": task_id, "retries": 0}
    return json.dumps(
        {
            "body": body.decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": properties,
        }
    )


def test_any_language_admits_once_however_often_the_message_comes(app, client, raw, worker):
    """The task is the idempotency key."""
    task_id = str(uuid.uuid4())
    for _ in range(3):
        raw.lpush(SUBMIT_QUEUE, message_of_another_language(task_id, contents="Who is there?", **ASKED, cache="off"))

    def admitted():
        """Return the job of each time the message was taken."""
        jobs = re.findall(rf"admission.admitted task={task_id} job=(\S+)", worker.log())
        return jobs if len(jobs) == 3 else None

    jobs = wait_until(admitted, what="three admissions")
    assert set(jobs) == {app.AsyncResult(task_id).get(timeout=20)["job_id"]}
    assert client.job(jobs[0]).text(timeout=20)


def test_a_wrong_request_fails_the_task_with_its_text(app):
    """As the exception every Celery client knows."""
    with pytest.raises(ValueError, match=r"temperature.*9.*less than or equal to 2"):
        submit(app, "?", temperature=9).get(timeout=20)


def test_countdown_is_kept_by_the_worker(app):
    """The job begins when it is over."""
    result = app.send_task(SUBMIT_TASK, args=["Later?"], kwargs=ASKED, queue=SUBMIT_QUEUE, countdown=0.5)
    assert result.get(timeout=20)["job_id"]


def test_a_group_is_as_many_jobs(app, client):
    """And its results are in its order."""
    questions = [f"Question {number}?" for number in range(5)]
    asked = group(signature(SUBMIT_TASK, (text,), ASKED, queue=SUBMIT_QUEUE, app=app) for text in questions)
    told = asked.apply_async().get(timeout=20)
    assert [client.job(one["job_id"]).text(timeout=20) for one in told]
    assert len({one["job_id"] for one in told}) == 5


def next_message(raw, queue):
    """Return the next task on somebody's queue: its name and arguments."""
    _, message = wait_until(lambda: raw.brpop(queue, timeout=1), what="the next task")
    envelope = json.loads(message)
    return envelope["headers"]["task"], json.loads(base64.b64decode(envelope["body"]))[0]


def test_a_chord_gathers_the_jobs(app, raw):
    """Its callback gets all of them, on its own queue."""
    asked = [signature(SUBMIT_TASK, (f"Part {n}?",), ASKED, queue=SUBMIT_QUEUE, app=app) for n in range(3)]
    chord(asked, signature("host.all", queue="mail", app=app)).apply_async()
    task, (jobs,) = next_message(raw, "mail")
    assert (task, len({job["job_id"] for job in jobs})) == ("host.all", 3)


def test_an_errback_is_called(app, raw):
    """With what stock workers give it."""
    wrong = {**ASKED, "lane": "urgent"}
    app.send_task(
        SUBMIT_TASK, ["?"], wrong, queue=SUBMIT_QUEUE, link_error=signature("host.oops", queue="mail", app=app)
    )
    assert next_message(raw, "mail")[0] == "host.oops"


@pytest.mark.parametrize("priority", [0, 5, 9])
def test_a_priority_loses_nothing(app, priority):
    """Kombu's clients put such messages beside the queue."""
    sent = app.send_task(SUBMIT_TASK, ["Soon?"], ASKED, queue=SUBMIT_QUEUE, priority=priority)
    assert sent.get(timeout=20)["job_id"]


def test_what_has_expired_is_not_admitted(app):
    """The worker drops it, as stock workers do."""
    late = app.send_task(SUBMIT_TASK, ["Too late?"], ASKED, queue=SUBMIT_QUEUE, countdown=0.5, expires=0.1)
    with pytest.raises(TaskRevokedError):
        late.get(timeout=20)


@pytest.mark.parametrize(("options", "queue"), [({}, "celery"), ({"queue": "mail"}, "mail")])
def test_a_chain_goes_on_where_stock_workers_listen(app, raw, options, queue):
    """The next task gets the job's ids, on its own queue or on Celery's default one; genqueue's workers leave it."""
    following = signature("host.remember", app=app, **options)
    chain(signature(SUBMIT_TASK, ("And then?",), ASKED, queue=SUBMIT_QUEUE, app=app), following).apply_async()
    task, (job,) = next_message(raw, queue)
    assert task == "host.remember"
    assert job["job_id"]


def test_revoking_an_admission_does_not_end_the_job_but_revoking_its_generation_does(app, client, emulator):
    """Cancelling a job is genqueue's own affair; the task that runs it is a way to it."""
    with emulator.paced(tpot=5):
        result = submit(app, "Is anybody there?", cache="off")
        job = client.job(result.get(timeout=20)["job_id"])
        assert next(event for event in job.tail(timeout=20) if event.type == "delta")
        app.control.revoke(result.id, terminate=True)
        flight = job.stream_key.rpartition(":")[2]
        running = [task for tasks in app.control.inspect(timeout=5, limit=1).active().values() for task in tasks]
        task = next(task for task in running if task["name"] == TASK and flight in task["id"])
        assert task["id"].startswith(f"{flight}.")
        assert not job.status().ended
        app.control.revoke(task["id"], terminate=True)
        with pytest.raises(JobCancelled):
            job.result(timeout=20)


def test_a_purged_doorbell_rings_again_and_a_revoked_one_does_not(app, client):
    """What waits is the ledger's, not the message; revoking it ends the job, before any worker fetched it."""
    control = app.control
    control.cancel_consumer("generate.high", reply=True, limit=1)
    purged, revoked = [client.submit(f"Who rings, {n}?", model=MODEL, lane="high") for n in range(2)]
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge("generate.high") == 2
    late = client.submit("Who else rings?", model=MODEL, lane="high")
    for job in (revoked, late):
        (answer,) = control.revoke(job.status().task_id, reply=True, limit=1)
        assert job.status().flight in str(answer)
        with pytest.raises(JobCancelled):
            job.result(timeout=5)
    control.add_consumer("generate.high", reply=True, limit=1)
    assert purged.text(timeout=20)
    assert [event.type for event in late.tail()] == ["queued", "cancelled"]


def test_task_flight_and_job_lead_to_each_other(app, client, own_broker, worker):
    """Whichever of them Flower or a log shows, `genqueue status` shows the others."""
    result = submit(app, "Who is who?", traceparent=TRACE)
    job = client.job(result.get(timeout=20)["job_id"])
    job.result(timeout=20)
    status = job.status()
    assert status.task_id.startswith(f"{status.flight}.")
    for name in (job.id, status.flight, status.task_id, result.id):
        shown = CliRunner(env={"GENQUEUE_DATA_URL": own_broker.url()}).invoke(main, ["status", name])
        assert shown.exit_code == 0, shown.output
        rows = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
        assert (rows["job"], rows["flight"], rows["task"]) == (job.id, status.flight, status.task_id)
        assert rows["trace"] == TRACE
    wait_until(lambda: f"trace={TRACE[3:35]}" in worker.log(), what="the trace in the log")


def test_a_trace_is_carried_by_the_messages_headers(app, client, raw):
    """From the sender's message to the job, and on to the generation's message."""
    sent = app.send_task(
        SUBMIT_TASK,
        args=["Traced?"],
        kwargs={**ASKED, "lane": "low"},
        queue=SUBMIT_QUEUE,
        headers={"traceparent": TRACE},
    )
    assert client.job(sent.get(timeout=20)["job_id"]).status().traceparent == TRACE
    message = wait_until(lambda: raw.lindex("generate.low", 0), what="the generation's message")
    assert json.loads(message)["headers"]["traceparent"] == TRACE


def test_no_prompt_is_shown(app, worker, emulator):
    """Neither by remote control nor in the log."""
    secret = f"secret{uuid.uuid4().hex}"
    assert submit(app, secret).get(timeout=20)
    later = app.send_task(SUBMIT_TASK, args=[secret], kwargs=ASKED, queue=SUBMIT_QUEUE, countdown=60)
    inspect = app.control.inspect(timeout=5, limit=1)
    scheduled = wait_until(lambda: [one for many in inspect.scheduled().values() for one in many], what="the schedule")
    assert later.id in str(scheduled)
    app.control.revoke(later.id)
    assert secret not in str(scheduled) + str(inspect.query_task(later.id)) + worker.log()
