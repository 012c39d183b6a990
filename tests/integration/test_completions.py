"""Telling the ends of jobs: signed webhooks and Celery messages out of the outbox of a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from webhook_receiver import Receiver

from genqueue.fingerprint import encode
from genqueue.on_done import parse_on_done
from genqueue.payload.codec import PLAIN, Codec
from genqueue.payload.seal import KeyRing, parse_keys
from genqueue_lab.certificates import ensure_certificates
from genqueue_worker.completions import delivery, webhooks
from genqueue_worker.completions.delivery import Deliverer
from genqueue_worker.completions.messages import task_id
from genqueue_worker.completions.tellers import tellers
from genqueue_worker.courier import Courier
from genqueue_worker.runtime import end
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from genqueue.keys import Keys
    from genqueue.scripts import Call

    from .ledger_desk import Desk

SECRETS = [bytes(range(24)), bytes(range(1, 33))]
WHSEC = ",".join(f"whsec_{base64.b64encode(secret).decode()}" for secret in SECRETS)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
COMPLETED = {
    "finish_reason": "STOP",
    "usage": '{"output_tokens":2}',
    "timings": '{"total":1}',
    "model": "m-1",
    "source": "live",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look as often as an impatient test."""
    monkeypatch.setattr(delivery, "INTERVAL", 0.02)


@pytest.fixture
def certificates(tmp_path):
    """Return a certificate authority and its server's certificate."""
    return ensure_certificates(tmp_path)


@pytest.fixture
async def receiver(certificates):
    """Return a receiver with TLS."""
    async with Receiver(certificates.server_context()) as running:
        yield running


@pytest.fixture
def given(certificates, database_url):
    """Return settings with secrets, loopback allowed, and the receiver's authority trusted."""
    return {
        "data_url": database_url,
        "webhook_secrets": WHSEC,
        "webhook_networks": "127.0.0.0/8,::1/128",
        "webhook_ca_file": certificates.ca_file,
    }


class Reporting(Courier):
    """A courier that also says what became of each delivery once the server knows: job, outcome, seconds."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        super().__init__(client, keys)
        self.reports: asyncio.Queue[tuple[str, str, float]] = asyncio.Queue()

    async def ask(self, call: Call) -> Any:
        """Run a call."""
        reply = await super().ask(call)
        if call.script.name == "delivered":
            _, job, _, outcome, delay_ms = call.args
            self.reports.put_nowait((str(job), str(outcome), int(delay_ms) / 1000))
        return reply

    async def next(self) -> tuple[str, str, float]:
        """Wait for the next report."""
        return await asyncio.wait_for(self.reports.get(), 10)


@asynccontextmanager
async def delivering(desk: Desk, given: dict[str, Any], codec: Codec = PLAIN) -> AsyncIterator[Reporting]:
    """Run a deliverer on the desk's server."""
    async with (
        redis.asyncio.Redis.from_url(given["data_url"], protocol=2) as data,
        tellers(WorkerSettings.load(**given), desk.keys, codec) as told_by,
        asyncio.TaskGroup() as tasks,
    ):
        courier = Reporting(data, desk.keys)
        deliverer = Deliverer(data, courier, desk.keys, told_by)
        running = [tasks.create_task(courier.run()), tasks.create_task(deliverer.run())]
        try:
            yield courier
        finally:
            await end(running)


def ended(desk: Desk, whom: object, **fields: Any) -> str:
    """Return a job that ended with a result of two words, on the server's own clock, with somebody to be told."""
    desk.now = 0
    seconds, _ = desk.link.command("TIME")
    stored = encode(parse_on_done(whom)).decode()
    result = fields.pop("result", '{"text":"hello there"}')
    known = {"fingerprint": "", "on_done": stored, "traceparent": TRACE, "deadline_ms": (int(seconds) + 60) * 1000}
    job = desk.submission(**{**known, **fields})
    flight = desk.running(job)
    assert desk.settle(flight, result=result, detail=COMPLETED).status == "succeeded"
    return job.job


async def test_a_webhook_is_signed_and_says_all(desk: Desk, receiver: Receiver, given) -> None:
    """The receiver can verify it with either secret, and needs to ask nobody anything."""
    job = ended(desk, receiver.url())
    async with delivering(desk, given) as courier:
        received = await asyncio.wait_for(receiver.received.get(), 10)
        assert await courier.next() == (job, "delivered", 0)
    assert not desk.link.command("EXISTS", desk.keys.outbox(3))
    assert all(received.signed_with(secret) for secret in SECRETS)
    assert not received.signed_with(b"x" * 24)
    assert received.headers["webhook-id"] == f"msg_{job}"
    assert received.headers["traceparent"] == TRACE
    assert received.headers["host"] == f"localhost:{receiver.port}"
    payload = received.payload
    assert payload["type"] == "job.completed"
    assert payload["timestamp"].endswith("Z")
    data = payload["data"]
    assert (data["job_id"], data["state"], data["tenant"], data["lane"]) == (job, "completed", "acme", "normal")
    assert (data["finish_reason"], data["usage"], data["model"]) == ("STOP", {"output_tokens": 2}, "m-1")
    assert (data["result"], data["truncated"]) == ({"text": "hello there"}, False)
    assert data["stream_key"].startswith(f"{desk.slot}events:")


async def test_what_is_not_taken_is_told_again(desk: Desk, receiver: Receiver, given) -> None:
    """An error, or a redirect, is told again later, doubling; with the same id, so that a double is recognised."""
    receiver.answers += ["500 Oops", "302 Found\r\nlocation: https://localhost/elsewhere", "200 OK"]
    job = ended(desk, receiver.url())
    async with delivering(desk, given) as courier:
        for least, most in ((4, 6), (8, 12)):
            _, outcome, delay = await courier.next()
            assert (outcome, least <= delay <= most) == ("failed", True)
            desk.link.command("ZADD", desk.keys.outbox(3), 1, job)
        assert await courier.next() == (job, "delivered", 0)
    told = [receiver.received.get_nowait() for _ in range(receiver.received.qsize())]
    assert len(told) == 3
    assert len({one.headers["webhook-id"] for one in told}) == 1
    assert len({one.body for one in told}) == 1


async def test_the_head_of_an_answer_counts(desk: Desk, receiver: Receiver, given, monkeypatch) -> None:
    """A body that never comes does not make an end untold."""
    monkeypatch.setattr(webhooks, "_DRAIN", 0.05)
    receiver.answers.append("200 OK\r\ntransfer-encoding: chunked")
    job = ended(desk, receiver.url())
    async with delivering(desk, given) as courier:
        assert await courier.next() == (job, "delivered", 0)


async def test_who_left_is_told_no_answer(desk: Desk, receiver: Receiver, given) -> None:
    """Also when he is told after others of his flight had theirs."""
    whom = encode(parse_on_done(receiver.url())).decode()
    seconds, _ = desk.link.command("TIME")
    deadline_ms, desk.now = (int(seconds) + 60) * 1000, 0
    left, stayed = (desk.submission(fingerprint="f", on_done=told, deadline_ms=deadline_ms) for told in (whom, ""))
    flight = desk.running(left)
    desk.submit(stayed)
    desk.leave(left.job)
    desk.settle(flight, result='{"text":"not yours"}', detail=COMPLETED)
    async with delivering(desk, given) as courier:
        assert await courier.next() == (left.job, "delivered", 0)
    data = receiver.received.get_nowait().payload["data"]
    assert (data["state"], data["result"], data["truncated"]) == ("cancelled", None, False)


async def test_a_receiver_that_is_gone_is_not_asked_again(desk: Desk, receiver: Receiver, given, caplog) -> None:
    """410 ends it."""
    receiver.answers.append("410 Gone")
    job = ended(desk, receiver.url())
    with caplog.at_level(logging.ERROR):
        async with delivering(desk, given) as courier:
            assert await courier.next() == (job, "dropped", 0)
    assert f"completion.dropped job={job} tries=1 why=status 410" in caplog.text
    assert receiver.received.qsize() == 1


async def test_after_a_day_nobody_is_told(desk: Desk, receiver: Receiver, given, caplog) -> None:
    """What failed for a day is dropped, loudly."""
    receiver.answers.append("503 Busy")
    job = ended(desk, receiver.url())
    seconds, _ = desk.link.command("TIME")
    desk.link.command("HSET", desk.keys.job(job), "done_at", (int(seconds) - 86_399) * 1000)
    with caplog.at_level(logging.ERROR):
        async with delivering(desk, given) as courier:
            assert await courier.next() == (job, "dropped", 0)
    assert f"completion.dropped job={job}" in caplog.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_not_connected_to(desk: Desk, receiver: Receiver, given, host, caplog) -> None:
    """However it is written: nothing inside the worker's network can be reached by a webhook."""
    job = ended(desk, receiver.url(host=host))
    async with delivering(desk, {**given, "webhook_networks": "10.0.0.0/8"}) as courier:
        assert (await courier.next())[:2] == (job, "failed")
    assert "where no webhook goes" in caplog.text
    assert receiver.connections == 0


async def test_a_strange_certificate_is_refused(desk: Desk, receiver: Receiver, given) -> None:
    """TLS is verified."""
    job = ended(desk, receiver.url())
    async with delivering(desk, {**given, "webhook_ca_file": None}) as courier:
        assert (await courier.next())[:2] == (job, "failed")
    assert receiver.received.empty()


@pytest.mark.parametrize(("networks", "reached"), [("127.0.0.0/8,::1", True), ("", False)])
async def test_plain_http_is_for_listed_networks(desk: Desk, given, networks, reached) -> None:
    """Without TLS only to addresses the operator listed."""
    async with Receiver() as receiver:
        job = ended(desk, receiver.url(host="127.0.0.1"))
        async with delivering(desk, {**given, "webhook_networks": networks}) as courier:
            assert (await courier.next())[:2] == (job, "delivered" if reached else "failed")
        assert receiver.received.qsize() == reached


async def test_nothing_is_told_unsigned(desk: Desk, receiver: Receiver, given, caplog) -> None:
    """Without a secret webhooks wait, uncounted, and the worker says so once; Celery messages go out."""
    unsigned = {**given, "webhook_secrets": None}
    jobs = [ended(desk, receiver.url()) for _ in range(2)]
    message = ended(desk, {"task": "billing.note", "options": {"queue": "billing"}})
    with caplog.at_level(logging.WARNING):
        async with delivering(desk, unsigned) as courier:
            reports = {(await courier.next())[:2] for _ in range(3)}
    assert reports == {(jobs[0], "waits"), (jobs[1], "waits"), (message, "delivered")}
    assert desk.link.command("HGET", desk.keys.job(jobs[0]), "done_tries") is None
    assert caplog.text.count("completions.unsigned") == 1
    assert receiver.received.empty()


async def test_a_celery_message_is_published(desk: Desk, given) -> None:
    """The data comes first, as for a link callback; the id is the job's, so that a double is recognised."""
    job = ended(desk, {"task": "billing.note", "args": [7], "kwargs": {"loud": True}})
    immutable = {"task": "billing.ping", "args": ["x"], "options": {"queue": "pings"}, "immutable": True}
    other = ended(desk, immutable)
    async with delivering(desk, given) as courier:
        assert {(await courier.next())[:2] for _ in range(2)} == {(job, "delivered"), (other, "delivered")}
    message = json.loads(desk.link.command("LPOP", "celery"))
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args[0]["job_id"], args[0]["result"], args[1:]) == (job, {"text": "hello there"}, [7])
    assert kwargs == {"loud": True}
    headers = message["headers"]
    assert (headers["task"], headers["id"], headers["traceparent"]) == ("billing.note", task_id(job), TRACE)
    message = json.loads(desk.link.command("LPOP", "pings"))
    assert json.loads(base64.b64decode(message["body"]))[0] == ["x"]
    assert message["headers"]["id"] == task_id(other)


async def test_a_broker_that_is_away_is_tried_again(desk: Desk, given) -> None:
    """A message that cannot be published waits like a webhook."""
    job = ended(desk, {"task": "billing.note"})
    async with delivering(desk, {**given, "done_broker_url": "redis://127.0.0.1:1/0"}) as courier:
        assert (await courier.next())[:2] == (job, "failed")


async def test_two_workers_tell_each_end_once(desk: Desk, receiver: Receiver, given) -> None:
    """Whoever takes an end has it for himself."""
    jobs = {ended(desk, receiver.url()) for _ in range(100)}
    async with delivering(desk, given) as first, delivering(desk, given) as second:
        second.reports = first.reports
        for _ in jobs:
            await first.next()
    told = [receiver.received.get_nowait().payload["data"]["job_id"] for _ in range(receiver.received.qsize())]
    assert sorted(told) == sorted(jobs)


async def test_a_sealed_result_is_told_in_plain(desk: Desk, receiver: Receiver, given) -> None:
    """Whom the job names gets the answer, whatever it is stored as; one that is too long is left out."""
    codec = Codec(KeyRing(parse_keys("k1:" + base64.b64encode(bytes(32)).decode())))
    ended(desk, receiver.url(), result=codec.seal("result", b'{"text":"secret"}'))
    async with delivering(desk, given, codec):
        first = await asyncio.wait_for(receiver.received.get(), 10)
        ended(desk, receiver.url(), result=codec.seal("result", json.dumps({"text": "x" * 300_000}).encode()))
        second = await asyncio.wait_for(receiver.received.get(), 10)
    assert first.payload["data"]["result"] == {"text": "secret"}
    assert (second.payload["data"]["result"], second.payload["data"]["truncated"]) == (None, True)


async def test_every_end_is_told(desk: Desk, receiver: Receiver, given) -> None:
    """A failure with its code, a cancellation, and an answer from the cache."""
    whom = encode(parse_on_done(receiver.url())).decode()
    first = ended(desk, receiver.url(), fingerprint="f", cache="refresh")
    failing = desk.submission(fingerprint="", on_done=whom, deadline_ms=2**42)
    detail = {"code": "X", "message": "no", "retryable": "1"}
    desk.settle(desk.running(failing), "failed", detail=detail)
    cancelled = desk.submission(fingerprint="", on_done=whom, deadline_ms=2**42)
    desk.submit(cancelled)
    desk.leave(cancelled.job)
    async with delivering(desk, given) as courier:
        for _ in range(3):
            assert (await courier.next())[1] == "delivered"
    told = {}
    while not receiver.received.empty():
        payload = receiver.received.get_nowait().payload
        told[payload["data"]["job_id"]] = payload
    assert set(told) == {first, failing.job, cancelled.job}
    failed = told[failing.job]
    assert failed["type"] == "job.failed"
    assert [failed["data"][name] for name in ("code", "message", "retryable", "result")] == ["X", "no", True, None]
    assert told[cancelled.job]["type"] == "job.cancelled"
