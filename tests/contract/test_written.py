"""What a real worker leaves in the server, against the schemas: entries, results, requests, and what is told."""

import base64
import json

import pytest
import redis
from acceptance_workers import WorkerProcess

from genqueue import Client, JobFailed
from genqueue.events import decode
from genqueue.fingerprint import encode
from genqueue.on_done import parse_on_done
from genqueue.payload.codec import PLAIN, codec_of
from genqueue_worker.completions.notice import notice

from .golden_streams import load
from .schemas import COMMON, validate, validate_event, validate_hash

KEYS = f"k1:{base64.b64encode(bytes(range(16))).decode()}"
TOOLS = [{"function_declarations": [{"name": "lookup", "parameters": {"type": "OBJECT", "properties": {}}}]}]
THINKING = {"include_thoughts": True}
RESULT = json.dumps(
    {
        "v": 1,
        "text": "Rhine.",
        "content": {"role": "model", "parts": [{"text": "Rhine."}]},
        "candidate": {},
        "prompt_feedback": {},
        "finish_reason": "STOP",
        "usage": dict.fromkeys(
            ("prompt_tokens", "output_tokens", "thought_tokens", "cached_tokens", "total_tokens"), 1
        ),
        "model": "gemini-3",
        "attempts": 1,
        "timings": {"queued": 0.1, "ttft": 0.2, "total": 0.5},
    }
)
MODEL = "gemini-3-flash-preview"
QUESTIONS = (
    {"contents": "Tell me, and cite https://example.com/a.", "thinking_config": THINKING},
    {"contents": "call lookup", "tools": TOOLS, "thinking_config": THINKING},
    {"contents": "Block this prompt."},
    {"contents": "What?", "model": "gemini-0-never"},
)


@pytest.fixture(params=[None, KEYS], ids=["plain", "sealed"])
def client(request, own_server, emulator, tmp_path):
    """Return a client of a deployment with a worker, without and with payload keys."""
    keys = {"payload_keys": request.param} if request.param else {}
    environment = {f"GENQUEUE_{name.upper()}": value for name, value in keys.items()}
    worker = WorkerProcess(tmp_path, own_server.url(), emulator, **environment)
    try:
        worker.start()
        with Client(data_url=own_server.url(), **keys) as made:
            yield made
    finally:
        worker.kill()


def test_what_a_worker_writes(client):
    """Every kind of content, an answer out of the cache, refused prompts and requests."""
    settings = client._connection.settings
    codec, keys = codec_of(settings), client._connection.keys
    jobs = [client.submit(**{"model": MODEL, **question}) for question in QUESTIONS]
    for job in jobs:
        list(job.tail())
    jobs.append(client.submit(**{"model": MODEL, **QUESTIONS[0]}))
    with redis.Redis.from_url(settings.data_url) as server:
        stories = [[decode(*entry) for entry in server.xrange(job.stream_key)] for job in jobs]
        facts = [validate_hash("job", server.hgetall(keys.job(job.id))) for job in jobs]
        flights = [server.hgetall(keys.flight(fact["flight"])) for fact in facts]
        ended = [entry for job in jobs for _, entry in server.xrange(f"{keys.slot_of_id(job.id)}finished")]
    seen = set()
    for story in stories:
        for event in story:
            validate_event(event.fields)
            opened = codec.open_entry(event.fields)
            validate_event(opened)
            seen.add(f"{event.type} {opened['about']}" if event.type == "part" else event.type)
    parts = {f"part {about}" for about in ("part", "text", "candidate", "prompt")}
    assert seen == {"queued", "started", "delta", "thought", "completed", "failed"} | parts
    assert (any("sealed" in event.fields for story in stories for event in story)) is codec.seals
    for job, fields, story in zip(jobs, flights, stories, strict=True):
        flight = validate_hash("flight", fields)
        ending = {name: value for name, value in story[-1].fields.items() if name not in COMMON}
        assert json.loads(flight["ending"]) == ending
        if flight["state"] == "succeeded":
            document = json.loads(codec.open("result", fields[b"result"]))
            validate("result", document)
            assert document["text"] == job.text() == "".join(event.text or "" for event in job.tail())
        else:
            validate("request", json.loads(codec.open("request", fields[b"request"])))
            with pytest.raises(JobFailed):
                job.result()
    for entry in ended:
        validate("finished", {name.decode(): value.decode() for name, value in entry.items()})
    assert {entry[b"state"] for entry in ended} == {b"completed", b"failed"}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled", "expired"])
def test_what_is_told_of_an_end(outcome, desk):
    """The body of a webhook, for each way to end."""
    job = desk.submission(on_done=encode(parse_on_done("https://example.com/done")).decode())
    reply = desk.submit(job)
    golden = load()["plain" if outcome == "succeeded" else "failed"]
    last = list(golden.entries.values())[-1]
    detail = {name: value for name, value in last.items() if name not in COMMON}
    if outcome in {"succeeded", "failed"}:
        desk.claim(reply.flight, reply.stamp)
        desk.settle(reply.flight, outcome, detail=detail, result=RESULT if outcome == "succeeded" else "")
    elif outcome == "cancelled":
        desk.leave(job.job)
    else:
        desk.sweep_at(job.deadline_ms)
    (completion,) = desk.collect()
    told = notice(completion, desk.keys, PLAIN)
    validate("webhook", told)
    assert told["data"]["truncated"] is False
    assert (told["data"]["result"] is not None) == (outcome == "succeeded")
