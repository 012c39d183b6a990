"""What is stored, through a real worker: sealed, compressed, and outside the data server."""

import base64
import hashlib
import os
import random
import zlib
from pathlib import Path

import pytest
import redis
from acceptance_workers import WorkerProcess, wait_until

from genqueue import Client, JobFailed
from genqueue.errors import PayloadUnreadable
from genqueue_lab.servers import RedisServer

MODEL = "gemini-2.5-flash"
KEYS = "new:" + base64.b64encode(os.urandom(32)).decode() + ",old:" + base64.b64encode(os.urandom(16)).decode()
SECRET = "the launch code is 7316 and nobody may know"
#: Larger than the threshold of the blob store, and larger than what the worker sends inside a request.
IMAGE, FILM = os.urandom(300_000), os.urandom(600_000)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """Server, settings and directory of one sealed deployment with a blob store."""
    directory = tmp_path_factory.mktemp("sealed")
    with RedisServer(os.environ.get("GENQUEUE_TEST_SERVER")) as server:
        settings = {"data_url": server.url(), "blob_url": f"file://{directory}/blobs", "blob_threshold": 100_000}
        yield settings, directory


@pytest.fixture(scope="module")
def start_sealed(deployment, emulator):
    """Start the deployment's worker, once."""
    settings, directory = deployment
    environment = {f"GENQUEUE_{name.upper()}": value for name, value in settings.items()}
    worker = WorkerProcess(
        directory, settings["data_url"], emulator, GENQUEUE_PAYLOAD_KEYS=KEYS, GENQUEUE_GEMINI_INLINE_BYTES=700_000,
        **environment,
    )  # fmt: skip
    yield lambda: worker if worker.process else worker.start()
    if worker.process is not None and worker.process.poll() is None:
        worker.kill()


@pytest.fixture
def sealed(deployment):
    """Make a client of the deployment."""
    settings, _ = deployment
    with Client(payload_keys=KEYS, **settings) as made:
        yield made


def everything(url):
    """Return all the bytes in a server: names, values, streams and queues, what is compressed decompressed too."""
    found = []
    with redis.Redis.from_url(url) as server:
        readers = {
            b"string": server.get,
            b"hash": server.hgetall,
            b"list": lambda key: server.lrange(key, 0, -1),
            b"set": server.smembers,
            b"zset": lambda key: server.zrange(key, 0, -1),
            b"stream": server.xrange,
        }
        for key in server.scan_iter():
            found += [key, *flat(readers[server.type(key)](key))]
    return b"\n".join([*found, *map(inflated, found)])


def flat(value):
    """Return every piece of bytes in a reply."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [piece for item in value for piece in flat(item)] if isinstance(value, (list, set, tuple)) else []


def inflated(value):
    """Return what a compressed document says."""
    return zlib.decompress(value[1:]) if value[:1] == b"z" else b""


def picture(data, mime_type="image/png"):
    """Return a part with inline data."""
    return {"inline_data": {"mime_type": mime_type, "data": base64.b64encode(data).decode()}}


def test_no_word_of_a_sealed_deployment_can_be_read_in_the_server(sealed, start_sealed, deployment):
    """Neither while a job waits, nor when it has run, nor in the broker; and its blobs are sealed as well."""
    settings, directory = deployment
    url = settings["data_url"]
    asked = [
        {"contents": SECRET},
        {"contents": f"{SECRET} {'word ' * 30_000}"},
        {"contents": SECRET, "thinking_config": {"include_thoughts": True}, "system_instruction": SECRET},
        {"contents": [SECRET, picture(IMAGE)]},
    ]
    jobs = [sealed.submit(model=MODEL, **request) for request in asked]
    waiting = everything(url)
    assert b"queued" in waiting
    (blob,) = (path for path in (directory / "blobs").rglob("*") if path.is_file())
    assert IMAGE[:50] not in blob.read_bytes()
    assert hashlib.sha256(IMAGE).hexdigest() != blob.name

    start_sealed()
    results = [job.result(30) for job in jobs]
    events = [event for job in jobs for event in job.tail(timeout=30)]
    assert "".join(event.text or "" for event in jobs[0].tail(timeout=30)) == results[0].text
    assert any(event.thought for event in events)
    assert not any("sealed" in event.fields for event in events)
    ended = everything(url)
    assert b"completed" in ended
    secrets = [SECRET, base64.b64encode(IMAGE[:30]).decode(), *(result.text[:30] for result in results)]
    secrets += [event.thought for event in events if event.thought and len(event.thought) > 12]
    for secret in secrets:
        assert secret.encode() not in waiting + ended
    assert not [path for path in (directory / "blobs").rglob("*") if path.is_file()]

    again = sealed.submit(asked[0]["contents"], model=MODEL)
    assert (again.result(10).text, again.result(10).source) == (results[0].text, "cache")
    assert "".join(event.text or "" for event in again.tail(timeout=10)) == results[0].text


def test_without_the_key_nothing_opens(sealed, start_sealed, deployment):
    """A reader learns what to set; one that has the key among others reads."""
    settings, _ = deployment
    start_sealed()
    job = sealed.submit("hello", model=MODEL, cache="off")
    assert job.text(30)
    with Client(**settings) as keyless:
        with pytest.raises(PayloadUnreadable, match="set GENQUEUE_PAYLOAD_KEYS"):
            keyless.job(job.id).result(5)
        with pytest.raises(PayloadUnreadable, match="set GENQUEUE_PAYLOAD_KEYS"):
            list(keyless.job(job.id).tail(timeout=5))
    first, second = KEYS.split(",")
    with Client(payload_keys=f"{second},{first}", **settings) as rotated:
        assert rotated.job(job.id).text(5) == job.text(5)
        assert rotated.submit("hello", model=MODEL).text(30)


def test_what_is_too_large_for_a_request_goes_by_the_files_api(sealed, start_sealed, deployment, emulator):
    """The largest piece is uploaded as it was, and deleted when the answer is there; the other stays inside."""
    _, directory = deployment
    start_sealed()
    job = sealed.submit([picture(IMAGE), picture(FILM, "video/mp4"), "What is this?"], model=MODEL)
    assert job.result(30).finish_reason == "STOP"
    digest = base64.b64encode(hashlib.sha256(FILM).hexdigest().encode()).decode()
    (file,) = (one for one in emulator.files() if one["sha256Hash"] == digest)
    assert (file["mimeType"], file["sizeBytes"]) == ("video/mp4", str(len(FILM)))
    assert emulator.stats()["paths"]["/v1beta/" + file["name"]] == 1
    wait_until(lambda: not files_in(directory), what="the end of the blobs")


def files_in(directory):
    """Return the blobs of a deployment."""
    return [path for path in (Path(directory) / "blobs").rglob("*") if path.is_file()]


def test_blobs_live_as_long_as_the_request(deployment, start_worker, own_server, tmp_path):
    """One set for all who ask the same; a lost one fails the job, whose others stay for `dead_ttl`."""
    store = {"blob_url": f"file://{tmp_path}/blobs", "blob_threshold": 100_000}
    with Client(data_url=own_server.url(), **store) as client:
        pair = [client.submit([picture(IMAGE), "What?"], model=MODEL) for _ in range(2)]
        assert len(files_in(tmp_path)) == 1
        torn = client.submit([picture(IMAGE), picture(FILM), "Both?"], model=MODEL)
        next(path for path in files_in(tmp_path) if path.stat().st_size == len(FILM)).unlink()
        start_worker(**{f"GENQUEUE_{name.upper()}": value for name, value in store.items()})
        assert pair[0].text(30) == pair[1].text(30)
        with pytest.raises(JobFailed, match=r"600000 bytes .* is not in the blob store") as caught:
            torn.result(30)
        assert (caught.value.code, caught.value.retryable) == ("blob_missing", False)
        wait_until(lambda: len(files_in(tmp_path)) == 1, what="the end of the first two's blob")


def test_prompts_of_four_megabytes_pass_and_leave_no_trace_in_the_worker(start_worker, client, own_emulator):
    """A million tokens of text: submitted, claimed, sent, and not kept in memory while the answer comes."""
    worker = start_worker()
    words = [f"{number:05d}" for number in random.Random(7).sample(range(100_000), 5000)]
    prompt = " ".join(random.Random(8).choices(words, k=4_000_000 // 6))
    client.submit(f"{prompt} 0", model=MODEL).result(60)
    before = rss(worker.pid)
    with own_emulator.paced(tokens=3000, tpot=0.05):
        jobs = [client.submit(f"{prompt} {number}", model=MODEL) for number in range(1, 6)]
        own_emulator.wait(live_at_least=5, timeout=60)
        for job in jobs:
            assert next(event for event in job.tail(timeout=60) if event.text).text
        wait_until(lambda: rss(worker.pid) - before < 10_000_000, what="less memory than half of the prompts'")
        for job in jobs:
            job.cancel()


def rss(pid):
    """Return a process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
