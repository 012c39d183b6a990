import asyncio
import json
import ssl

import httpx
import pytest

from genqueue_lab.emulator import Options, Pace
from genqueue_lab.emulator.faults import KINDS, Faults, Rule
from genqueue_lab.emulator.server import Emulator

STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
WHOLE = "/v1beta/models/gemini-2.5-flash:generateContent"
HELLO = {"contents": [{"parts": [{"text": "hello"}]}]}


@pytest.fixture
async def running(tmp_path):
    """Run an emulator in the test's own loop whose answers have five chunks."""
    async with Emulator(Options(pace=Pace(ttft=0, tpot=0.001, tokens=5), directory=tmp_path)) as emulator:
        yield emulator


@pytest.fixture(params=["h2", "http/1.1"])
async def client(running, request):
    """Return an HTTP client of either version."""
    trust = ssl.create_default_context(cafile=running.ca_file)
    http2 = request.param == "h2"
    key = {"x-goog-api-key": "key"}
    async with httpx.AsyncClient(
        base_url=running.url, verify=trust, http1=not http2, http2=http2, headers=key, timeout=30
    ) as client:
        yield client


async def asked(client, fault=None, target=STREAM):
    """Ask with a fault in the header; return status, whole events, the rest of the body, and the error's class."""
    body, status = b"", None
    timeout = httpx.Timeout(30, read=0.5) if fault and fault.startswith(("stall", "silence")) else 30
    try:
        headers = {} if fault is None else {"x-emulator-fault": fault}
        async with client.stream("POST", target, json=HELLO, headers=headers, timeout=timeout) as answer:
            status = answer.status_code
            async for piece in answer.aiter_raw():
                body += piece
        error = None
    except httpx.TransportError as caught:
        error = type(caught)
    whole, _, rest = body.rpartition(b"\r\n\r\n")
    return status, whole.count(b"data: "), rest, error


CUT = httpx.RemoteProtocolError


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("reset", (None, 0, CUT)),
        ("reset;head", (200, 0, CUT)),
        ("reset;after=2", (200, 2, CUT)),
        ("reset;after=5", (200, 5, CUT)),
        ("goaway", (None, 0, CUT)),
        ("goaway;after=2", (200, 2, CUT)),
        ("goaway;after=2;last_stream=before;graceful", (200, 2, CUT)),
        ("disconnect", (None, 0, CUT)),
        ("disconnect;after=2;tcp=fin", (200, 2, CUT)),
        ("disconnect;after=2;tcp=rst", (200, 2, CUT)),
        ("stall;after=2;seconds=0.01", (200, 5, None)),
        ("slow_start;seconds=0.01", (200, 5, None)),
        ("truncate", (200, 0, None)),
        ("truncate;after=2", (200, 2, None)),
        ("truncate;after=2;whole", (200, 2, None)),
        ("split_json;after=1", (200, 5, None)),
        ("error_in_stream;after=2", (200, 2, None)),
        ("error_in_stream;data;status=503", (200, 1, None)),
    ],
)
async def test_a_fault_strikes_where_it_is_told(client, fault, seen):
    """Over both HTTP versions an answer shows as many chunks as the fault lets through, and ends its way."""
    status, events, rest, error = await asked(client, fault)
    if error is httpx.ReadError:
        error = CUT  # which of the two depends on whether the connection was reset
    assert (status, events, error) == seen
    if fault.startswith("truncate"):
        assert rest.startswith(b"data: {") != ("whole" in fault)


async def test_a_silence_lasts_longer_than_its_reader(client):
    """With a head and some chunks before it, or without; other streams of the connection go on."""
    silent = ("stall", "stall;after=2", "silence")
    seen = await asyncio.gather(*(asked(client, fault) for fault in silent), asked(client))
    assert [status for status, *_ in seen] == [200, 200, None, 200]
    assert [events for _, events, *_ in seen] == [0, 2, 0, 5]
    assert [error for *_, error in seen] == [httpx.ReadTimeout] * 3 + [None]


async def test_an_error_inside_of_a_stream_is_bare_json_at_its_end(client):
    """As Google sends it: indented, no event, with RetryInfo; in an array it is the last element."""
    *_, rest, _ = await asked(client, "error_in_stream;after=1;retry_info=1.5")
    error = json.loads(rest)["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"][0]["retryDelay"] == "1.500s"
    *_, rest, _ = await asked(client, "error_in_stream;after=1;status=500", STREAM.removesuffix("?alt=sse"))
    assert [set(one) & {"candidates", "error"} for one in json.loads(rest)] == [{"candidates"}, {"error"}]


@pytest.mark.parametrize(
    ("fault", "code", "name"),
    [
        ("status", 503, "UNAVAILABLE"),
        ("status;status=429;retry_info=3;retry_after=4", 429, "RESOURCE_EXHAUSTED"),
        ("status;status=401", 401, "UNAUTHENTICATED"),
        ("region_forbidden", 403, "PERMISSION_DENIED"),
        ("status;status=502", 502, None),
    ],
)
async def test_an_error_answer_has_googles_shape(client, fault, code, name):
    """An error object with the canonical name, or the front end's page where it answers by itself."""
    answer = await client.post(WHOLE, json=HELLO, headers={"x-emulator-fault": fault})
    assert answer.status_code == code
    if name is None:
        assert "Error 502 (Bad Gateway)" in answer.text
        return
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (code, name)
    if "retry_info" in fault:
        assert error["details"][0]["retryDelay"] == "3s"
        assert answer.headers["retry-after"] == "4"


async def test_a_whole_answer_is_cut_below_its_length(client):
    """What was announced in Content-Length does not come."""
    assert (await asked(client, "truncate", WHOLE))[3] is httpx.RemoteProtocolError


async def test_rules_change_while_it_runs(client, running):
    """Rules come, are counted and go; the first that matches strikes, each prompt as often as it says."""
    rules = [{"kind": "reset", "match": "nobody says this"}, {"kind": "truncate", "each": 1, "whole": True}, "status"]
    added = (await client.post("/emulator/faults", json=rules)).json()["faults"]
    assert [rule["id"] for rule in added] == [1, 2, 3]
    assert [(await asked(client))[:2] for _ in range(2)] == [(200, 0), (503, 0)]
    await client.request("DELETE", "/emulator/faults?id=3")
    assert (await asked(client))[:2] == (200, 5)
    counted = (await client.get("/emulator/faults")).json()["faults"]
    assert [(rule["taken"], rule["struck"]) for rule in counted] == [(0, 0), (1, 1)]
    await client.request("DELETE", "/emulator/faults")
    assert running.service.faults.describe() == []
    (prompt,) = (await client.get("/emulator/stats?details=0&prompts=1")).json()["prompts"]
    assert (prompt["prompt"], prompt["calls"], prompt["completed"], prompt["faulted"]) == ("hello", 3, 1, 2)


async def test_a_slow_start_ends_with_its_rule(client, running):
    """Requests that are held begin when the rule is taken away."""
    running.service.faults.add([Rule(kind="slow_start", seconds=3600)])
    asking = asyncio.create_task(asked(client))
    await running.stats.reached({"calls": 1}, {})
    assert not asking.done()
    running.service.faults.remove()
    assert (await asking)[:2] == (200, 5)


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ({"kind": "flood"}, "flood"),
        ({"kind": "reset", "when": 1}, "when"),
        ({"kind": "reset", "code": "OOPS"}, "OOPS"),
        ({"kind": "status", "after": 2}, "before the answer"),
        ({"kind": "status", "status": 200}, "400"),
        (7, "object"),
    ],
)
async def test_a_rule_that_means_nothing_is_refused(client, rule, word):
    """A wrong rule gets 400 and a sentence that names what does not fit, in the body and in the header alike."""
    refused = await client.post("/emulator/faults", json=rule)
    assert refused.status_code == 400
    assert word in refused.json()["error"]
    headers = {"x-emulator-fault": "flood;after=2"}
    answer = await client.post(STREAM, json=HELLO, headers=headers)
    assert "x-emulator-fault" in answer.json()["error"]["message"]


def test_a_rule_is_spelled_as_it_is_read():
    """The short form goes both ways, and every kind is explained."""
    rule = Rule.parse("goaway; after=3; graceful; last_stream=all; match=one two")
    assert (rule.after, rule.graceful, rule.last_stream, rule.match) == (3, True, "all", "one two")
    assert Rule.parse(rule.spell()) == rule
    assert {Rule.parse(kind).kind for kind in KINDS} == set(KINDS)


def test_a_share_is_the_same_share_again():
    """The same seed strikes the same requests, about as many as it says; `times` ends it."""
    drawn = [
        [faults.choose(str(number), str(number), "m") is not None for number in range(200)]
        for faults in (Faults([Rule(kind="reset", share=0.3, seed=seed)]) for seed in (1, 1, 2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert 40 < sum(drawn[0]) < 80
    twice = Faults([Rule(kind="reset", times=2, model="m")])
    assert [twice.choose("", "", model) is None for model in ("n", "m", "m", "m")] == [True, False, False, True]
