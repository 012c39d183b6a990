"""Vertex AI over the emulator: signing in by google-auth, what a token's end does, and what is refused."""

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from genqueue_lab.servers import free_port
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiOptions, GeminiProvider
from genqueue_worker.providers.seam import ProviderRequest
from genqueue_worker.providers.vertex import vertex_route
from genqueue_worker.providers.vertex_signin import SignIn

CONTENTS = [{"role": "user", "parts": [{"text": "Why is the sky blue?"}]}]
REQUEST = ProviderRequest("gemini-2.5-flash", CONTENTS, None, {"labels": {"team": "a"}, "audioTimestamp": True})


@pytest.fixture
def route_to(emulator, tmp_path):
    """Return a function that makes a route with credentials in a file; the token endpoint is left as it was found."""

    def make(credentials=None, project="genqueue", location="europe-west4"):
        file = tmp_path / "credentials.json"
        file.write_text(json.dumps(emulator.account() if credentials is None else credentials))
        return vertex_route(project, location, emulator.url, str(file), str(emulator.ca_file))

    before = emulator.tokens()
    yield make
    emulator.tokens(**{name: before[name] for name in ("lifetime", "refuse", "hold")})


@pytest.fixture
async def provider():
    """Return a provider that is closed afterwards."""
    async with GeminiProvider() as made:
        yield made


async def text_of(provider, route, request=REQUEST):
    """Return the text of an answer."""
    async with contextlib.aclosing(provider.stream(request, route)) as stream:
        return "".join([piece.text async for chunk in stream for piece in chunk.entries if piece.kind == "delta"])


async def refusal(waiting):
    """Return the error something ends with."""
    with pytest.raises(ProviderError) as raised:
        await waiting
    return raised.value


async def test_a_service_account_streams(provider, route_to, emulator):
    """Its key is exchanged for one token, which many requests show; fields of Vertex AI's own arrive."""
    route, before = route_to(), emulator.tokens()["issued"]
    assert await provider.warm(route) is True
    await provider.prove(route)
    texts = await asyncio.gather(*(text_of(provider, route) for _ in range(3)))
    assert len(texts[0].split()) == 40
    assert texts == texts[:1] * 3
    assert emulator.tokens()["issued"] == before + 1
    assert emulator.bodies()[-1]["labels"] == {"team": "a"}
    parent = "/v1/projects/genqueue/locations/europe-west4/publishers/google/models/gemini-2.5-flash"
    paths = {one["path"] for one in emulator.stats()["requests"] if one["path"].startswith(parent)}
    assert {path.partition("?")[0] for path in paths} == {f"{parent}:countTokens", f"{parent}:streamGenerateContent"}


async def test_an_endpoint_of_ones_own_streams(provider, route_to):
    """A tuned model is named by its endpoint, in full or not."""
    route = route_to()
    for name in ("endpoints/77", "projects/genqueue/locations/europe-west4/endpoints/77"):
        assert len((await text_of(provider, route, ProviderRequest(name, CONTENTS))).split()) == 40


def test_a_users_own_credentials_name_who_pays(emulator, route_to, monkeypatch):
    """Application Default Credentials are found by their variable; the quota project goes with each request."""
    account = emulator.account(kind="authorized_user", project="payer")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", route_to(account).credentials_file)
    # Users' tokens come from Google's one address for them, whatever their file says.
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", account["token_uri"])
    token = SignIn(vertex_route("p", "eu", emulator.url, None, str(emulator.ca_file)))()
    assert token.headers["x-goog-user-project"] == "payer"
    assert token.headers["authorization"].removeprefix("Bearer ") not in repr(token)
    assert 3500 < token.lifetime <= 3600


def test_a_machine_of_googles_needs_no_file():
    """Its metadata server gives tokens, and says whose they are."""
    with metadata_server() as host:
        program = (
            "from genqueue_worker.providers.vertex import vertex_route\n"
            "from genqueue_worker.providers.vertex_signin import SignIn\n"
            "token = SignIn(vertex_route('p'))()\n"
            "print(token.headers['authorization'], token.holder)"
        )
        environment = {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "HOME": "/nowhere", "PATH": ""}
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
    assert ended.stdout.strip() == "Bearer ya29.machine vm@p.iam.gserviceaccount.com", ended.stderr


@contextlib.contextmanager
def metadata_server():
    """Run what answers at metadata.google.internal, and give its address."""
    account = {"email": "vm@p.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]}
    answers = {"token": {"access_token": "ya29.machine", "expires_in": 3000, "token_type": "Bearer"}, "": account}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.partition("?")[0].rstrip("/").rpartition("/")[2]
            body = json.dumps(answers.get(name, account)).encode()
            if name in {"project-id", "universe-domain", "universe_domain"}:
                body = b"p" if name == "project-id" else b"googleapis.com"
            self.send_response(200)
            self.send_header("metadata-flavor", "Google")
            self.send_header(
                "content-type", "application/text" if body in {b"p", b"googleapis.com"} else "application/json"
            )
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_only_without_a_token_a_request_waits_for_one(provider, route_to, emulator):
    """Until the first is there, which all of them show."""
    route, before = route_to(), emulator.tokens()["issued"]
    emulator.tokens(hold=True)
    waiting = [asyncio.create_task(text_of(provider, route)) for _ in range(3)]
    await asyncio.to_thread(emulator.wait, live_at_least=1)
    assert not any(task.done() for task in waiting)
    emulator.tokens(hold=False)
    assert len(set(await asyncio.gather(*waiting))) == 1
    assert emulator.tokens()["issued"] == before + 1


async def test_tokens_are_replaced_before_their_end(provider, route_to, emulator):
    """Nobody has to ask: a worker that has nothing to do has a token for the next job."""
    emulator.tokens(lifetime=0.4)
    route, before = route_to(), emulator.tokens()["issued"]
    seen = emulator.stats(details=False)["totals"]["requests"]
    await provider.warm(route)
    warmed = emulator.stats(details=False)["totals"]["requests"]
    await asyncio.to_thread(emulator.wait, requests_at_least=warmed + 2)
    assert warmed > seen
    assert emulator.tokens()["issued"] >= before + 2


async def test_a_token_taken_back_is_replaced_once(provider, route_to, emulator, caplog):
    """All requests that were refused go out again with the new one; no token is in the log."""
    caplog.set_level(logging.DEBUG)
    route = route_to()
    await provider.prove(route)
    before = emulator.tokens()["issued"]
    emulator.revoke_tokens()
    texts = await asyncio.gather(*(text_of(provider, route) for _ in range(4)))
    assert [len(text.split()) for text in texts] == [40] * 4
    assert emulator.tokens()["issued"] == before + 1
    assert "vertex.token_refused route=vertex" in caplog.text
    assert "ya29." not in caplog.text


async def test_an_account_that_is_refused_is_a_refused_key(provider, route_to, emulator, caplog):
    """The worker then takes no jobs; the log says what to look at."""
    emulator.tokens(refuse="invalid_grant")
    route = route_to()
    assert await provider.warm(route) is False
    found = await refusal(provider.prove(route))
    assert (found.code, found.status, found.retryable, found.doubts_key) == ("UNAUTHENTICATED", 401, False, True)
    assert "invalid_grant" in found.message
    assert "see that the account exists, its key is in force" in caplog.text


async def test_a_token_endpoint_that_is_away_is_no_fault_of_the_key(provider, route_to, emulator):
    """Jobs are tried again."""
    route = route_to({**emulator.account(), "token_uri": f"https://127.0.0.1:{free_port()}/token"})
    found = await refusal(provider.prove(route))
    assert (found.code, found.retryable, found.doubts_key) == ("token_unavailable", True, False)
    assert "check the network" in found.message


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"type": "impersonated_service_account"}', '{"type": "service_account"}', None]
)
def test_credentials_that_are_none_are_told_with_what_to_set(route_to, text):
    """Missing, empty, half a key or other JSON: the variable and the other way are named."""
    route = route_to()
    if text is None:
        route = vertex_route("p", "eu", None, "/nowhere/key.json")
    else:
        Path(route.credentials_file).write_text(text)
    with pytest.raises(ProviderError, match="set GENQUEUE_VERTEX_CREDENTIALS") as raised:
        SignIn(route)()
    assert (raised.value.status, raised.value.doubts_key) == (401, True)


async def test_a_project_that_may_not_be_used_is_googles_refusal(provider, route_to):
    """The permission that is missing is named."""
    found = await refusal(provider.prove(route_to(project="forbidden")))
    assert (found.code, found.status, found.doubts_key) == ("PERMISSION_DENIED", 403, True)
    assert "aiplatform.endpoints.predict" in found.message


async def test_a_model_that_is_gone_does_not_make_a_token_wrong(route_to):
    """The trial counts tokens for a model that may be retired one day; a job that asks for one is told."""
    async with GeminiProvider(GeminiOptions(trial_model="gemini-0")) as provider:
        route = route_to()
        assert await provider.warm(route) is True
        await provider.prove(route)
        found = await refusal(text_of(provider, route, ProviderRequest("gemini-0", CONTENTS)))
    assert (found.code, found.status, found.retryable) == ("NOT_FOUND", 404, False)


async def test_too_many_requests_come_again(provider, route_to, emulator):
    """Vertex AI names no quota and no time; it is retryable all the same."""
    emulator.limit(rpm=1)
    try:
        route = route_to(project="narrow")
        await text_of(provider, route)
        found = await refusal(text_of(provider, route))
    finally:
        emulator.limit(rpm=None)
    assert (found.code, found.status, found.retryable) == ("RESOURCE_EXHAUSTED", 429, True)


async def test_what_it_cannot_do_is_said_before_anything_is_sent(provider, route_to, emulator):
    """Fields of the Developer API's own, and uploads, which want Cloud Storage."""
    route = route_to()
    before = emulator.stats(details=False)["totals"]["requests"]
    stored = await refusal(
        text_of(provider, route, ProviderRequest("gemini-2.5-flash", CONTENTS, None, {"store": True}))
    )
    assert "Vertex AI takes no store; the Gemini Developer API does" in stored.message
    uploaded = await refusal(provider.upload(b"x", "image/png", route))
    assert "gs:// URI" in uploaded.message
    assert {(error.code, error.retryable) for error in (stored, uploaded)} == {("unsupported", False)}
    assert emulator.stats(details=False)["totals"]["requests"] == before
