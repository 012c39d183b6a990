"""Submitting on a real server, through connections that break: never two jobs, and never none in silence."""

import asyncio
import itertools
import json
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from genqueue import AsyncClient, Client, scripts
from genqueue.deployment import Deployment
from genqueue.errors import InvalidRequest, ServerUnavailable, SettingsError, StreamGone, SubmitUncertain
from genqueue.intake import Candidate, Intake
from genqueue.keys import Keys
from genqueue.order import make_order
from genqueue.payload.codec import Codec
from genqueue.reservation import Reservation, reserve
from genqueue.settings import Settings
from genqueue_lab.fault_proxy import FaultProxy, running
from genqueue_lab.servers import free_port

from .client_sides import CLIENTS, HandWorker

MODEL = "gemini-2.5-flash"


@pytest.fixture
def proxy(server):
    """Return a proxy in front of the server."""
    with FaultProxy(server.port) as made:
        yield made


@pytest.fixture
def settings(proxy, database_url, prefix):
    """Settings of a deployment of the test's own, its data server behind the proxy and its broker not."""
    database = int(database_url.rpartition("/")[2])
    return {"data_url": proxy.url(database), "broker_url": database_url, "key_prefix": prefix}


@pytest.fixture(params=CLIENTS)
def client(request, settings):
    """One client after the other."""
    made = CLIENTS[request.param](**settings)
    yield made
    made.close()


@pytest.fixture
def worker(database_url, prefix):
    """Return a worker that does what it is told."""
    made = HandWorker(database_url, Keys(prefix))
    for script in scripts.SCRIPTS:  # else a reply that is lost may say that the server does not know it
        made.redis.script_load(script.source)
    yield made
    made.redis.close()


def count(worker, kind):
    """Return how many keys of a kind there are."""
    return len(list(worker.redis.scan_iter(match=f"{worker.keys.prefix}:*{kind}:*", count=1000)))


SUBMIT = running(scripts.SUBMIT)


@pytest.mark.parametrize("where", ["before", "after", "inside"])
def test_a_cut_submit_is_repeated_and_is_one_job(client, worker, proxy, where):
    """Whichever way the connection broke, nobody but the server notices."""
    fault = proxy.fault(where, SUBMIT)
    job = client.submit("What?", model=MODEL)
    assert fault.struck.is_set()
    assert (count(worker, "job"), count(worker, "flight")) == (1, 1)
    assert job.status().state == "queued"
    assert worker.redis.llen("generate.normal") == 1


@pytest.mark.parametrize(("where", "jobs"), [("before", 0), ("after", 1)])
def test_an_uncertain_submit_is_settled_by_its_id(client, worker, proxy, where, jobs):
    """The caller cannot know; the same request under the id of the error is one job either way."""
    fault = proxy.fault(where, SUBMIT, times=None)
    with pytest.raises(SubmitUncertain) as raised:
        client.submit("What?", model=MODEL)
    fault.lift()
    assert count(worker, "job") == jobs
    job = client.submit("What?", model=MODEL, job_id=raised.value.job_id)
    assert job.id == raised.value.job_id
    assert (count(worker, "job"), count(worker, "flight")) == (1, 1)
    assert worker.redis.llen("generate.normal") == 1
    worker.take(job).succeed("Yes.")
    assert job.text() == "Yes."


def test_a_server_that_stalls_is_uncertain_in_time(client, proxy):
    """It took the submit and says nothing: an error in under 3 s."""
    proxy.fault("stall", SUBMIT, times=None)
    started = time.monotonic()
    with pytest.raises(SubmitUncertain):
        client.submit("What?", model=MODEL)
    assert time.monotonic() - started < 3.0


def test_a_server_that_is_not_there_is_certain(database_url, prefix):
    """Nothing can have been queued."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with Client(data_url=nowhere, broker_url=database_url, key_prefix=prefix) as client:
        with pytest.raises(ServerUnavailable) as raised:
            client.submit("What?", model=MODEL)
        assert not raised.value.sent
        (outcome,) = client.submit_many([{"contents": "x", "model": MODEL}])
        assert isinstance(outcome, ServerUnavailable)


def test_an_id_made_before_is_the_jobs(client):
    """It is known before anything is sent; submitted twice it is one job."""
    job_id = client.new_job_id("What?", model=MODEL, tenant="acme")
    first, second = (client.submit("What?", model=MODEL, tenant="acme", job_id=job_id) for _ in range(2))
    assert first.id == second.id == job_id
    assert first.stream_key == second.stream_key


@pytest.mark.parametrize("mine", ["client", "stranger"])
def test_whoever_submits_an_id_again_reads_its_stream_to_the_end(client, settings, mine):
    """Also one that had no part in the first submit: the leave mark is the same."""
    job_id = client.new_job_id("What?", model=MODEL)
    first, other = (client.submit("What?", model=MODEL) for _ in range(2))
    with Client(**settings) as stranger:
        jobs = {"client": client.submit("What?", model=MODEL, job_id=job_id)}
        jobs["stranger"] = stranger.submit("What?", model=MODEL, job_id=job_id)
        assert jobs[mine].cancel() is True
        assert [event.type for event in jobs["stranger"].tail(timeout=5)] == ["queued", "left"]
    assert {first.status().state, other.status().state} == {"queued"}


def test_an_id_of_another_question_is_refused(client, worker):
    """In its partition by chance, or on purpose."""
    job = client.submit("What?", model=MODEL)
    partition = worker.keys.partition_of_id(job.id)
    texts = (f"Else {n}?" for n in itertools.count())
    other = next(
        text for text in texts if worker.keys.partition_of_id(client.new_job_id(text, model=MODEL)) == partition
    )
    with pytest.raises(InvalidRequest, match="this very request") as raised:
        client.submit(other, model=MODEL, job_id=job.id)
    assert raised.value.field == "job_id"
    assert count(worker, "job") == 1


def test_many_are_one_outcome_each(client, worker):
    """In order; what is wrong with one is no matter of the others."""
    items = [{"contents": f"Question {n}"} for n in range(20)]
    items[3] = {"contents": "x", "temperature": 9}
    items[7] = "what?"
    outcomes = client.submit_many(items, model=MODEL, lane="low")
    wrong = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
    assert wrong == [3, 7]
    assert [outcomes[index].field for index in wrong] == ["config.temperature", "items"]
    assert worker.redis.llen("generate.low") == 18
    assert {outcomes[index].status().state for index in (0, 19)} == {"queued"}


def test_thousands_are_no_matter(client, worker):
    """All are accepted, and all are rung for; nothing is asked for the whole list at once."""
    outcomes = client.submit_many(({"contents": f"Question {n}"} for n in range(1100)), model=MODEL)
    assert len({job.id for job in outcomes}) == 1100
    assert worker.redis.llen("generate.normal") == 1100


def test_a_cut_batch_is_repeated_as_a_whole(client, worker, proxy):
    """Those the server had are not doubled."""
    fault = proxy.fault("after", SUBMIT, skip=4)
    outcomes = client.submit_many([{"contents": f"Question {n}"} for n in range(10)], model=MODEL)
    assert fault.struck.is_set()
    assert len({job.id for job in outcomes}) == count(worker, "flight") == 10


def test_a_key_gives_the_same_job(client, settings, worker):
    """From any process, in a batch, and after the job's end."""
    first = client.submit("What?", model=MODEL, idempotency_key="order 7")
    with Client(**settings) as other:
        assert other.submit("What?", model=MODEL, idempotency_key="order 7").id == first.id
    items = [{"contents": "What?", "idempotency_key": "order 7"}, {"contents": "What?", "idempotency_key": "order 8"}]
    again, another = client.submit_many(items, model=MODEL)
    assert again.id == first.id != another.id
    worker.take(first).succeed("Yes.")
    late = client.submit("What?", model=MODEL, idempotency_key="order 7")
    assert (late.id, late.text()) == (first.id, "Yes.")
    stored = worker.redis.hget(worker.keys.job(first.id), "idem").decode()
    assert worker.redis.pttl(stored) > 86_000_000


@pytest.mark.parametrize("difference", [{"contents": "Else?"}, {"share": "global"}, {"temperature": 1.0}])
def test_a_key_of_another_request_is_an_error(client, worker, difference):
    """What is asked, and who shares it, belong to the key; nothing is queued."""
    client.submit("What?", model=MODEL, idempotency_key="k")
    with pytest.raises(InvalidRequest) as raised:
        client.submit(**{"contents": "What?", "model": MODEL, "idempotency_key": "k", **difference})
    assert raised.value.field == "idempotency_key"
    assert count(worker, "job") == 1
    assert client.submit("Else?", model=MODEL, idempotency_key="k", tenant="other").status().state == "queued"


def test_a_key_whose_job_never_was_is_used(client, worker, proxy):
    """Its caller was cut off between the key and the job, and the deadline has passed since."""
    fault = proxy.fault("before", SUBMIT, times=None)
    with pytest.raises(SubmitUncertain) as raised:
        client.submit("What?", model=MODEL, idempotency_key="k", deadline=0.01)
    fault.lift()
    assert count(worker, "job") == 0
    wait_for_deadline(worker)
    job = client.submit("What?", model=MODEL, idempotency_key="k", deadline=60)
    assert job.id != raised.value.job_id
    assert client.submit("What?", model=MODEL, idempotency_key="k").id == job.id
    assert (count(worker, "job"), count(worker, "flight")) == (1, 1)


def wait_for_deadline(worker):
    """Wait until the deadline of the only key's job has passed by the server's clock, and its retention of 1 ms."""
    (key,) = worker.redis.scan_iter(match=f"{worker.keys.prefix}:idem:*")
    deadline = json.loads(worker.redis.get(key))["deadline_ms"]
    while worker.server_ms() <= deadline + 1:
        pass


def test_a_key_whose_job_is_done_and_gone_is_told_so(client, worker):
    """Its retention is over: never a second run."""
    job = client.submit("What?", model=MODEL, idempotency_key="k", deadline=0.2, result_ttl=0.001)
    for key in (worker.keys.job(job.id), worker.keys.flight(worker.flight(job)), job.stream_key):
        worker.redis.delete(key)
    wait_for_deadline(worker)
    with pytest.raises(StreamGone, match=job.id) as raised:
        client.submit("What?", model=MODEL, idempotency_key="k")
    assert raised.value.job_id == job.id
    assert count(worker, "job") == 0


def test_a_broker_url_that_kombu_does_not_understand_is_named(database_url, prefix):
    """At once, not at the first job."""
    with pytest.raises(SettingsError, match=r"GENQUEUE_BROKER_URL.*socket_timeout"):
        Client(data_url=database_url, broker_url=f"{database_url}?socket_timeout=5", key_prefix=prefix)


def test_an_absent_broker_is_logged_once_for_a_batch(database_url, prefix, worker, caplog):
    """All jobs are accepted; the sweep will ring for them."""
    caplog.set_level(logging.WARNING)
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with Client(data_url=database_url, broker_url=nowhere, key_prefix=prefix) as client:
        outcomes = client.submit_many([{"contents": str(n)} for n in range(5)], model=MODEL)
    assert len({job.id for job in outcomes}) == 5
    (record,) = [record for record in caplog.records if record.name == "genqueue.dispatch"]
    assert "messages=5" in record.getMessage()


KEYS = 125
CALLERS = 8


class Race:
    """Callers who ask under keys, each key several times, and what they were told."""

    def __init__(self, settings):
        self.settings = settings
        self.outcomes = []

    @staticmethod
    def text(key, caller):
        """Return what a caller asks under a key: one of three asks something else."""
        return f"Question {key}" + ("!" if caller % 3 == 2 else "")

    @staticmethod
    def pairs(callers):
        """Return the keys with some of their callers, the callers of one key next to each other."""
        return [(key, caller) for key in range(KEYS) for caller in callers]

    def by_threads(self):
        """Ask with the blocking client, on 16 threads, for half of the callers."""
        with Client(**self.settings) as client, ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda pair: self.ask(client, *pair), self.pairs(range(CALLERS // 2))))

    def ask(self, client, key, caller):
        """Ask, and note the job's id or the error."""
        try:
            told = client.submit(self.text(key, caller), model=MODEL, idempotency_key=f"key {key}").id
        except (InvalidRequest, SubmitUncertain, ServerUnavailable) as error:
            told = error
        self.outcomes.append((key, told))

    async def by_tasks(self):
        """Ask with the asyncio client, at most 100 at once, for the other half."""
        limit = asyncio.Semaphore(100)
        async with AsyncClient(**self.settings) as client:

            async def ask(key, caller):
                text = self.text(key, caller)
                try:
                    async with limit:
                        told = (await client.submit(text, model=MODEL, idempotency_key=f"key {key}")).id
                except (InvalidRequest, SubmitUncertain, ServerUnavailable) as error:
                    told = error
                self.outcomes.append((key, told))

            await asyncio.gather(*(ask(*pair) for pair in self.pairs(range(CALLERS // 2, CALLERS))))

    def jobs(self):
        """Return the jobs that callers of each key were told of; a conflict names the key, nothing else."""
        told = {key: set() for key in range(KEYS)}
        for key, outcome in self.outcomes:
            if isinstance(outcome, InvalidRequest):
                assert outcome.field == "idempotency_key"
            elif not isinstance(outcome, ServerUnavailable):
                told[key].add(outcome if isinstance(outcome, str) else outcome.job_id)
        return told


def leave_dead_reservations(settings, worker):
    """Leave every second key with a job that was never submitted and whose deadline has passed; returns their ids."""
    intake = Intake(Deployment(worker.keys), Settings(**settings), Codec())
    for key in range(0, KEYS, 2):
        candidate = Candidate(make_order(Race.text(key, 0), MODEL, {"idempotency_key": f"key {key}"}), intake)
        dead = Reservation(candidate.job, worker.server_ms() - 1, 86_400_000, candidate.identity)
        scripts.run(worker.redis, reserve(candidate.entry, dead, 60_000))
        yield candidate.job


def test_a_thousand_conflicting_rounds(settings, worker, proxy):
    """Callers of both clients race for each key, with equal and other requests, every seventh cut off in the middle.

    Half of the keys have a job already, which never was and has to be replaced by one and the same. Each key ends with
    one job and one flight. Whoever lost has that job, or the conflict; whoever was cut off has one of the two when he
    asks again.
    """
    turn = itertools.count()
    matching = running(scripts.SUBMIT), running(scripts.RESERVE)
    cut = proxy.fault("after", lambda command: any(of(command) for of in matching) and next(turn) % 7 == 0, times=None)
    dead = set(leave_dead_reservations(settings, worker))
    race = Race(settings)
    threads = threading.Thread(target=race.by_threads)
    threads.start()
    asyncio.run(race.by_tasks())
    threads.join()
    cut.lift()
    assert len(race.outcomes) == KEYS * CALLERS == 1000
    assert next(turn) > 1000

    told, again = race.jobs(), Race(settings)
    with Client(**settings) as client:
        for pair in again.pairs((0, 2)):
            again.ask(client, *pair)
    for key, jobs in again.jobs().items():
        assert len((jobs | told[key]) - dead) == 1
        assert not jobs & dead
    assert count(worker, "job") == count(worker, "flight") == KEYS


def test_a_cancelled_submit_leaves_nothing_half(settings, worker, proxy):
    """The task was cancelled after the server had the job: it is whole, and its ring is the sweep's."""
    fault = proxy.fault("stall", SUBMIT)

    async def cancelled():
        async with AsyncClient(**settings, command_timeout=2) as client:
            submitting = asyncio.ensure_future(client.submit("What?", model=MODEL, idempotency_key="k"))
            await asyncio.to_thread(fault.struck.wait, 5)
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
            return (await client.submit("What?", model=MODEL, idempotency_key="k")).id

    job_id = asyncio.run(cancelled())
    assert count(worker, "job") == count(worker, "flight") == 1
    assert worker.redis.exists(worker.keys.job(job_id))
    assert worker.redis.llen("generate.normal") == 1


def test_a_submit_ended_by_ctrl_c_leaves_nothing_half(settings, worker, proxy):
    """The server had it: it is whole, the client goes on, and the key still stands for the one job."""
    fault = proxy.fault("stall", SUBMIT)
    main = threading.main_thread().ident

    def press():
        fault.struck.wait(5)
        signal.pthread_kill(main, signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with Client(**settings, command_timeout=30) as client:
        with pytest.raises(KeyboardInterrupt):
            client.submit("What?", model=MODEL, idempotency_key="k")
        pressing.join()
        job = client.submit("What?", model=MODEL, idempotency_key="k")
        assert job.status().state == "queued"
    assert count(worker, "job") == count(worker, "flight") == 1
