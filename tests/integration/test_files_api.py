"""The Files API: google-genai against the emulator, and the worker's provider against both."""

import base64
import contextlib
import hashlib
import io
import os

import httpx
import pytest
from google import genai
from google.genai import errors, types

from genqueue_worker.providers import gemini_files
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini import GeminiProvider
from genqueue_worker.providers.seam import ProviderRequest, Route

MODEL = "gemini-2.5-flash"
#: Two pieces of at most 8 MiB, as the SDK cuts them too.
DATA = os.urandom(1024) * (9 * 1024)


def digest_of(data):
    """Return a digest as the API spells it."""
    return base64.b64encode(hashlib.sha256(data).hexdigest().encode()).decode()


@pytest.fixture
def client(own_emulator):
    """Return Google's own client; with a transport of its own its async half does not turn to aiohttp."""
    options = types.HttpOptions(
        base_url=own_emulator.url,
        client_args={"verify": own_emulator.trust()},
        async_client_args={"transport": httpx.AsyncHTTPTransport(verify=own_emulator.trust())},
    )
    with genai.Client(api_key="key", http_options=options) as client:
        yield client


@pytest.fixture
def route(own_emulator):
    """Return the way to the emulator."""
    return Route("gemini", own_emulator.url, "key", str(own_emulator.ca_file))


def test_the_sdk_uploads_uses_and_deletes_a_file(client, own_emulator):
    """Its upload, get, list, delete and a generation with the file all work as at Google's."""
    file = client.files.upload(
        file=io.BytesIO(DATA), config=types.UploadFileConfig(mime_type="video/mp4", display_name="clip", name="mine")
    )
    assert (file.name, file.display_name, file.mime_type) == ("files/mine", "clip", "video/mp4")
    assert (file.size_bytes, file.state, file.source) == (len(DATA), types.FileState.ACTIVE, types.FileSource.UPLOADED)
    assert file.sha256_hash == digest_of(DATA)
    assert client.files.get(name=file.name).uri == file.uri
    assert [one.name for one in client.files.list()] == ["files/mine"]
    assert client.models.generate_content(model=MODEL, contents=[file, "What is in it?"]).text
    client.files.delete(name=file.name)
    for call in (
        lambda: client.files.get(name=file.name),
        lambda: client.models.generate_content(model=MODEL, contents=[file, "And now?"]),
    ):
        with pytest.raises(errors.ClientError, match="may not exist"):
            call()
    assert [one["name"] for one in own_emulator.files()] == ["files/mine"]


async def test_the_sdk_uploads_asynchronously(client):
    """Its async half sends the same."""
    async with client.aio as aio:
        file = await aio.files.upload(file=io.BytesIO(b"text"), config=types.UploadFileConfig(mime_type="text/plain"))
        assert (file.size_bytes, file.sha256_hash) == (4, digest_of(b"text"))


def test_a_file_in_the_works_is_refused(client, own_emulator):
    """Until it is active no request may name it."""
    with own_emulator.paced(processing=60):
        file = client.files.upload(file=io.BytesIO(b"film"), config=types.UploadFileConfig(mime_type="video/mp4"))
        assert file.state is types.FileState.PROCESSING
        with pytest.raises(errors.ClientError, match="not in an ACTIVE state"):
            client.models.generate_content(model=MODEL, contents=[file, "What?"])


@pytest.mark.parametrize("data", [b"", b"small", DATA], ids=len)
async def test_the_worker_uploads_what_the_sdk_would(route, own_emulator, client, data):
    """Over its own connections: the SDK finds the same file, and a generation may name it."""
    async with GeminiProvider() as provider:
        uri = await provider.upload(data, "image/png", route)
        theirs = client.files.get(name=uri.rpartition("/")[2])
        assert (theirs.uri, theirs.size_bytes, theirs.sha256_hash) == (uri, len(data), digest_of(data))
        assert theirs.mime_type == "image/png"
        parts = [{"fileData": {"mimeType": "image/png", "fileUri": uri}}, {"text": "What?"}]
        request = ProviderRequest(MODEL, [{"role": "user", "parts": parts}])
        async with contextlib.aclosing(provider.stream(request, route)) as chunks:
            assert [chunk async for chunk in chunks][-1].finish_reason == "STOP"
        await provider.discard(uri, route)
        with pytest.raises(ProviderError, match="may not exist"):
            await provider.discard(uri, route)
    assert set(own_emulator.stats()["protocols"]) == {"h2", "http/1.1"}


async def test_the_worker_waits_until_a_file_is_ready(route, own_emulator, monkeypatch):
    """A file the provider still works on is looked at again, and given up in the end."""
    monkeypatch.setattr(gemini_files, "LOOK_AGAIN", 0.02)
    async with GeminiProvider() as provider:
        own_emulator.set(processing=0.1)
        uri = await provider.upload(b"film", "video/mp4", route)
        looks = own_emulator.stats()["paths"]["/v1beta/files/" + uri.rpartition("/")[2]]
        assert looks > 1
        monkeypatch.setattr(gemini_files, "PATIENCE", 0.1)
        own_emulator.set(processing=60)
        with pytest.raises(ProviderError, match="still PROCESSING") as caught:
            await provider.upload(b"film", "video/mp4", route)
        assert (caught.value.code, caught.value.retryable) == ("file_failed", True)


async def test_a_refused_upload_is_the_providers_error(own_emulator):
    """In its own words."""
    route = Route("gemini", own_emulator.url, "wrong", str(own_emulator.ca_file))
    async with GeminiProvider() as provider:
        with pytest.raises(ProviderError, match="API key not valid"):
            await provider.upload(b"x", "image/png", route)


def files_that_answer(*answers):
    """Return the Files API of a server that gives these answers in turn, and the requests it got."""
    script, seen = iter(answers), []

    def answer(request):
        seen.append(request)
        return next(script)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return gemini_files.Files(client, "https://here", "v1beta", {"x-goog-api-key": "key"}), seen


STARTED = httpx.Response(200, headers={"x-goog-upload-url": "https://elsewhere/upload?upload_id=7"}, json={})


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([httpx.Response(200, json={})], "no address"),
        ([STARTED, httpx.Response(200, headers={"x-goog-upload-status": "active"}, json={})], "is active at 1 bytes"),
        ([STARTED, httpx.Response(200, headers={"x-goog-upload-status": "final"}, text="<html>")], "no JSON"),
        ([STARTED, httpx.Response(200, headers={"x-goog-upload-status": "final"}, json=[])], "names no file"),
        ([STARTED, httpx.Response(503, json={"error": {"status": "UNAVAILABLE", "message": "later"}})], "later"),
        (
            [
                STARTED,
                httpx.Response(
                    200,
                    headers={"x-goog-upload-status": "final"},
                    json={"file": {"state": "FAILED", "error": {"message": "no film"}}},
                ),
            ],
            "no film",
        ),
    ],
)
async def test_strange_answers_are_errors(answers, message):
    """Whatever comes back ends in a file or in a ProviderError, and the key goes to the route's endpoint alone."""
    files, seen = files_that_answer(*answers)
    with pytest.raises(ProviderError, match=message):
        await files.upload(b"x", "image/png")
    assert {request.url.host for request in seen} == {"here"}
