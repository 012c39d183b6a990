"""What the clients in memory offer a test, beyond what the conformance suite asks of every client."""

import asyncio
import base64
import subprocess
import sys
import threading

import pytest

from genqueue import as_completed
from genqueue.errors import JobExpired, JobNotFound, StreamGone
from genqueue.events import text_of
from genqueue.testing import AsyncMemoryClient, MemoryClient, hold, lose, retry
from genqueue.testing.script import fail, finish

MODEL = "gemini-2.5-flash"


@pytest.fixture
def client():
    """Make a client in memory."""
    with MemoryClient() as made:
        yield made


def test_requests_are_recorded_with_lane_tenant_and_config(client):
    """Each job once, oldest first, whether it was generated, joined or answered from the cache."""
    client.script("Yes.")
    options = {"lane": "high", "tenant": "acme", "temperature": 0.5, "system_instruction": "Be brief.", "deadline": 60}
    first = client.submit("What?", model=MODEL, **options)
    again = client.submit("What?", model=MODEL, **options)
    client.submit_many([{"contents": ["a", "b"]}], model="other", cache="off")
    assert [request.job_id for request in client.requests[:2]] == [first.id, again.id]
    request = client.requests[0]
    assert (request.lane, request.tenant, request.cache, request.model) == ("high", "acme", "use", MODEL)
    assert (request.prompt, request.config) == ("What?", {"temperature": 0.5})
    assert request.contents == [{"role": "user", "parts": [{"text": "What?"}]}]
    assert request.system_instruction == {"parts": [{"text": "Be brief."}]}
    assert request.deadline == pytest.approx(client.server.now() + 60, abs=5)
    assert (client.requests[2].model, client.requests[2].cache) == ("other", "off")
    assert client.requests[2].prompt == "a\nb"


def test_a_function_answers_by_the_request(client):
    """As an answer for one question, or for all that nothing else was scripted for."""
    client.default = lambda request: [request.prompt.upper(), fail("SAFETY", "no")] if "!" in request.prompt else "ok"
    client.script(lambda request: f"{request.lane} first")
    assert client.submit("1", model=MODEL, lane="low").text() == "low first"
    assert client.submit("2", model=MODEL).text() == "ok"
    assert [event.text for event in client.submit("a!", model=MODEL).tail()][-2:] == ["A!", None]


@pytest.mark.parametrize("answer", [5, b"bytes", {"text": "x"}, ["a", 5], [finish(), "behind the end"], lambda _: None])
def test_what_is_no_answer_is_told_to_the_test(client, answer):
    """Where the question is asked, and not as a failure of the job."""
    client.script(answer)
    with pytest.raises(TypeError, match="got"):
        client.submit("What?", model=MODEL)


def test_time_passes_when_the_test_says_so(client):
    """A retry comes up at its moment, and not before; then things expire one after the other."""
    client.script([retry(delay=30), "Yes."])
    job = client.submit("What?", model=MODEL, stream_ttl=100, result_ttl=1000, cache_ttl=500)
    client.advance(29)
    assert job.status().state == "waiting"
    client.advance(2)
    assert job.text() == "Yes."
    client.advance(101)
    with pytest.raises(StreamGone):
        list(job.tail())
    assert job.text() == "Yes."
    assert client.submit("What?", model=MODEL).result().source == "cache"
    client.advance(1000)
    assert client.submit("What?", model=MODEL).result().source == "live"
    client.advance(4000)
    with pytest.raises(JobNotFound):
        job.status()


def test_every_deadline_passes_at_its_moment(client):
    """Also when the clock is moved far beyond several, and a deadline counts from the time there is."""
    client.hold()
    early, late = (client.submit("What?", model=MODEL, deadline=seconds, share="none") for seconds in (10, 50_000))
    client.advance(10_000)
    with pytest.raises(JobExpired):
        early.result()
    assert late.status().state == "queued"
    assert client.submit("Now?", model=MODEL, deadline=10).status().deadline == pytest.approx(
        client.server.now() + 10, abs=5
    )
    client.release()
    assert late.status().state == "succeeded"


def test_clients_share_a_server(client):
    """What one submits, the other reads; one of them may be asynchronous."""
    other = MemoryClient(server=client.server)
    client.script("Yes.")
    job = client.submit("What?", model=MODEL)
    assert other.job(job.id).text() == "Yes."

    async def read():
        async with AsyncMemoryClient(server=client.server) as third:
            return await third.job(job.id).text()

    assert asyncio.run(read()) == "Yes."
    assert MemoryClient().requests == []


def test_a_reader_in_another_thread_is_woken(client):
    """It waits for what the test has not released yet."""
    client.script(["a", hold(), "b"])
    job = client.submit("What?", model=MODEL)
    shown, seen = threading.Event(), []

    def read():
        for event in job.tail(timeout=20):
            seen.append(event.text)
            if event.text == "a":
                shown.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert shown.wait(20)
    client.release()
    reader.join(20)
    assert seen == [None, None, "a", "b", None]


def test_threads_share_a_client(client):
    """Every job is answered, by the script that was its own."""
    client.default = lambda request: request.prompt
    texts = [f"{thread}-{n}" for thread in range(4) for n in range(10)]
    found = {}

    def submit(some):
        for text in some:
            found[text] = client.submit(text, model=MODEL).text()

    threads = [threading.Thread(target=submit, args=(texts[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: text for text in texts}


async def test_tasks_read_while_others_are_answered():
    """One loop, several readers, each in step."""
    async with AsyncMemoryClient() as client:
        client.script(["a", hold(), "b"], ["c", hold(), "d"])
        jobs = [await client.submit(text, model=MODEL) for text in ("1", "2")]

        async def read(job):
            return [event.text async for event in job.tail(timeout=20) if event.text]

        reading = [asyncio.create_task(read(job)) for job in jobs]
        await asyncio.sleep(0)
        client.release()
        assert await asyncio.gather(*reading) == [["a", "b"], ["c", "d"]]
        assert {job.id async for job in as_completed(jobs)} == {job.id for job in jobs}


def test_jobs_come_as_they_are_completed(client):
    """The one that is held comes last."""
    client.script(["a", hold()], "b")
    jobs = [client.submit(text, model=MODEL) for text in ("1", "2")]
    done = as_completed(jobs, timeout=20)
    assert next(done) is jobs[1]
    client.release()
    assert [job.text() for job in done] == ["a"]


def test_what_is_stored_may_be_sealed():
    """With payload keys the readers see what was said, and nothing stored does."""
    key = base64.b64encode(bytes(32)).decode()
    with MemoryClient(payload_keys=f"k:{key}") as client:
        client.script(["Secret", " words"])
        job = client.submit("A secret question", model=MODEL)
        assert job.text() == "".join(event.text or "" for event in job.tail()) == "Secret words"
        assert client.requests[0].prompt == "A secret question"
        stored = [client.server.redis.hgetall(job_key) for job_key in client.server.redis.keys("*:flight:*")]
        assert b"Secret" not in repr(stored).encode()


def test_without_the_extra_its_name_is_told():
    """Only when a client is asked for: pytest loads the package of the plugin everywhere."""
    code = (
        "import sys; sys.modules['fakeredis'] = None\n"
        "import genqueue.testing\n"
        "from genqueue.errors import MissingExtra\n"
        "try: genqueue.testing.MemoryClient\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "fakeredis[lua] is not installed; install it with: pip install 'genqueue[testing]'\n"


def test_an_answer_goes_on_where_an_attempt_was_cut_off(client):
    """When its job wants that: the text stays, the result is marked, and is not given again."""
    client.script(["Rhi", lose(), "n", retry(), "e"], "Rhine")
    job = client.submit("What?", model=MODEL, on_interrupt="continue")
    assert text_of(job.tail()) == job.text() == "Rhine"
    assert (job.result().continued, job.result().attempts) == (2, 3)
    assert client.submit("What?", model=MODEL).result().continued == 0


def test_an_answer_may_be_a_fallbacks(client):
    """The result names both models, and the answer is not given again."""
    client.script(["Rhine", finish(model="gemini-2.5-flash-lite", fallback_from=MODEL)], "Rhein")
    result = client.submit("What?", model=MODEL).result()
    assert (result.text, result.model, result.fallback_from) == ("Rhine", "gemini-2.5-flash-lite", MODEL)
    again = client.submit("What?", model=MODEL).result()
    assert (again.text, again.source, again.fallback_from) == ("Rhein", "live", None)
