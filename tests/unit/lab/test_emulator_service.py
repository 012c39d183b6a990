import json
import ssl

import httpx
import pytest

from genqueue_lab.emulator import Options, Pace
from genqueue_lab.emulator.server import Emulator

HELLO = {"contents": [{"parts": [{"text": "hello"}]}]}
MODEL = "/v1beta/models/gemini-2.5-flash"


@pytest.fixture
async def running(tmp_path):
    """Run an emulator in the test's own loop."""
    async with Emulator(Options(pace=Pace(ttft=0, tpot=0, tokens=5), directory=tmp_path)) as emulator:
        yield emulator


@pytest.fixture
async def client(running):
    """Return an HTTP client for it that sends a key."""
    trust = ssl.create_default_context(cafile=running.ca_file)
    headers = {"x-goog-api-key": "any"}
    async with httpx.AsyncClient(base_url=running.url, verify=trust, http2=True, headers=headers) as client:
        yield client


async def test_answers_carry_googles_header_fields(client):
    """The service tier and the server timing are there, on answers and on errors."""
    answer = await client.post(f"{MODEL}:generateContent", json=HELLO, headers={"x-emulator-ttft": "0.02"})
    assert answer.headers["x-gemini-service-tier"] == "standard"
    name, _, duration = answer.headers["server-timing"].partition("; dur=")
    assert name == "gfet4t7"
    assert int(duration) >= 20
    refused = await client.post(f"{MODEL}:generateContent", json={})
    assert refused.headers["x-gemini-service-tier"] == "standard"


async def test_the_tier_asked_for_is_served(client):
    """A request for flex or priority is told so in the header and in the usage."""
    answer = await client.post(f"{MODEL}:generateContent", json={**HELLO, "serviceTier": "flex"})
    assert answer.headers["x-gemini-service-tier"] == answer.json()["usageMetadata"]["serviceTier"] == "flex"


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
async def test_every_version_of_the_api_is_served(client, version):
    """The three prefixes answer alike."""
    answer = await client.post(f"/{version}/models/gemini-2.5-flash:generateContent", json=HELLO)
    assert answer.status_code == 200


async def test_the_key_may_be_in_the_query(client):
    """The parameter `key` counts when the header field is missing."""
    del client.headers["x-goog-api-key"]
    assert (await client.get("/v1beta/models", params={"key": "any"})).status_code == 200


async def test_no_key_is_forbidden(client):
    """Without a key the API says 403 in Google's words."""
    del client.headers["x-goog-api-key"]
    error = (await client.get("/v1beta/models")).json()["error"]
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    assert error["message"].startswith("Method doesn't allow unregistered callers")


@pytest.mark.parametrize("key", ["wrong", "invalid-key"])
async def test_a_wrong_key_is_invalid(client, key):
    """A wrong key is an invalid argument with the reason API_KEY_INVALID."""
    error = (await client.get("/v1beta/models", headers={"x-goog-api-key": key})).json()["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"] == "API key not valid. Please pass a valid API key."
    assert error["details"][0]["reason"] == "API_KEY_INVALID"


async def test_a_given_key_must_match_exactly(tmp_path):
    """With a key of its own the emulator takes no other, not even a longer one."""
    async with Emulator(Options(directory=tmp_path, api_key="secret")) as emulator:
        trust = ssl.create_default_context(cafile=emulator.ca_file)
        async with httpx.AsyncClient(base_url=emulator.url, verify=trust) as client:
            codes = [
                (await client.get(f"/v1beta/models?key={key}")).status_code for key in ("secret", "secret2", "any")
            ]
    assert codes == [200, 400, 400]


async def test_errors_of_an_array_stream_come_in_an_array(client):
    """A stream without alt=sse is a JSON array, and so is its error."""
    plain = await client.post(f"{MODEL}:streamGenerateContent", json={})
    events = await client.post(f"{MODEL}:streamGenerateContent?alt=sse", json={})
    assert plain.json() == [events.json()]
    assert plain.status_code == events.status_code == 400


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1beta/models/gemini-9:generateContent"),
        ("POST", f"{MODEL}:predict"),
        ("GET", "/v1beta/models/gemini-9"),
    ],
)
async def test_what_does_not_exist_is_not_found(client, method, target):
    """Unknown models and methods are 404 NOT_FOUND in Google's shape."""
    answer = await client.request(method, target)
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"
    assert "not" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("GET", f"{MODEL}:generateContent"), ("POST", MODEL)])
async def test_other_paths_get_googles_page(client, method, target):
    """Paths and methods outside of the API get the HTML page of Google's front end."""
    answer = await client.request(method, target)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=UTF-8")
    assert "Error 404 (Not Found)!!1" in answer.text


async def test_a_request_can_have_its_own_pace(client):
    """The x-emulator fields change one request; nonsense in them is refused."""
    url = f"{MODEL}:generateContent"
    short = await client.post(url, json=HELLO, headers={"x-emulator-tokens": "2"})
    assert short.json()["usageMetadata"]["candidatesTokenCount"] == 2
    odd = await client.post(url, json=HELLO, headers={"x-emulator-ttft": "soon"})
    assert odd.status_code == 400
    assert "x-emulator" in odd.json()["error"]["message"]


async def test_the_pace_is_changed_while_it_runs(client):
    """Settings apply to requests from now on, and the answer is the pace before."""
    before = (await client.post("/emulator/settings", json={"tokens": 3})).json()
    assert before["tokens"] == 5
    answer = await client.post(f"{MODEL}:generateContent", json=HELLO)
    assert answer.json()["usageMetadata"]["candidatesTokenCount"] == 3
    for wrong in ({"tokens": 0}, {"speed": 1}, []):
        assert (await client.post("/emulator/settings", json=wrong)).status_code == 400


async def test_the_statistics_name_every_request(client):
    """A request's record has its connection, protocol, model, status and times; a reset forgets it."""
    await client.post(f"{MODEL}:streamGenerateContent?alt=sse", json=HELLO)
    seen = (await client.get("/emulator/stats")).json()
    (record,) = seen["requests"]
    assert record["connection"] == seen["connections"][0]["id"]
    assert (record["protocol"], record["model"], record["status"], record["chunks"]) == (
        "h2",
        "gemini-2.5-flash",
        200,
        5,
    )
    assert record["start"] <= record["first"] <= record["end"]
    assert seen["paths"] == {f"{MODEL}:streamGenerateContent": 1}
    assert seen["totals"]["worst_lag"] >= 0
    await client.post("/emulator/reset")
    brief = (await client.get("/emulator/stats?details=0")).json()
    assert (brief["totals"]["requests"], "requests" in brief) == (0, False)


async def test_a_wait_ends_with_the_count_or_with_its_time(client):
    """Waiting answers 200 once the totals are reached, 408 after its time and 400 for a bound that means nothing."""
    assert (await client.get("/emulator/wait?live_at_most=0")).status_code == 200
    assert (await client.get("/emulator/wait?requests_at_least=1&timeout=0.01")).status_code == 408
    for wrong in ("live=0", "lives_at_most=0", "live_at_most=x"):
        assert (await client.get(f"/emulator/wait?{wrong}")).status_code == 400
    assert (await client.get("/emulator/nothing")).status_code == 404


async def test_a_body_is_read_in_any_script(client):
    """Text outside of ASCII goes in and out as UTF-8."""
    schema = {"type": "STRING", "enum": ["père\u2028“x”"]}
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    answer = await client.post(f"{MODEL}:generateContent", json={**HELLO, "generationConfig": config})
    assert json.loads(answer.json()["candidates"][0]["content"]["parts"][0]["text"]) == "père\u2028“x”"
