"""google-genai before Vertex AI, over the emulator: the SDK is the measure of what it answers."""

import json

import httpx
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials

MODEL = "gemini-2.5-flash"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture
def connect(emulator, monkeypatch):
    """Return a function that makes Google's client for a project, signed in with a key made for it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(emulator.ca_file))  # for google-auth's own way to the token endpoint
    made = []

    def connect(project="genqueue", location="us-central1", credentials=None):
        if credentials is None:
            credentials = service_account.Credentials.from_service_account_info(
                emulator.account(project), scopes=SCOPES
            )
        transport = httpx.HTTPTransport(verify=emulator.trust(), http1=False, http2=True)
        web = httpx.Client(transport=transport, timeout=60)
        options = types.HttpOptions(base_url=emulator.url, httpx_client=web)
        where = {"project": project, "location": location, "credentials": credentials}
        client = genai.Client(vertexai=True, http_options=options, **where)
        made.append((client, web))
        return client

    yield connect
    for client, web in made:
        client.close()
        web.close()


def test_the_sdk_finds_all_it_asks_for(connect):
    """A whole answer, a stream, a count of tokens, and the list of models."""
    models = connect().models
    whole = models.generate_content(model=MODEL, contents="Why is the sky blue?", config={"labels": {"team": "a"}})
    assert len(whole.text.split()) == 40
    assert whole.usage_metadata.traffic_type is types.TrafficType.ON_DEMAND
    assert whole.create_time.tzinfo is not None
    chunks = list(
        models.generate_content_stream(model=f"publishers/google/models/{MODEL}", contents="Why is the sky blue?")
    )
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.STOP
    assert models.count_tokens(model=MODEL, contents="hello").total_tokens == 2
    assert f"publishers/google/models/{MODEL}" in [model.name for model in models.list(config={"page_size": 3})]


def test_a_tuned_model_is_an_endpoint(connect):
    """Those of a number answer, others are not found."""
    models = connect(location="global").models
    parent = "projects/genqueue/locations/global/endpoints"
    assert models.generate_content(model=f"{parent}/7", contents="hello").text
    with pytest.raises(errors.ClientError, match=r"Endpoint `.*/endpoints/none` not found"):
        models.generate_content(model=f"{parent}/none", contents="hello")


def test_refusals_are_googles(connect):
    """Who shows no token in force, may not use the project, or asks for no model, gets Google's words."""
    for credentials in (Credentials("ya29.nobodys"), Credentials("AIza")):
        with pytest.raises(errors.ClientError, match="invalid authentication credentials") as raised:
            connect(credentials=credentials).models.generate_content(model=MODEL, contents="hello")
        assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")
    with pytest.raises(errors.ClientError, match=r"Permission 'aiplatform\.endpoints\.predict' denied"):
        connect("forbidden").models.generate_content(model=MODEL, contents="hello")
    with pytest.raises(errors.ClientError, match=r"Publisher Model `projects/genqueue/.*` was not found"):
        connect().models.generate_content(model="gemini-0", contents="hello")


def test_fields_of_the_developer_api_are_unknown(emulator):
    """What google-genai would not send is refused as the API refuses it; without a token nothing is looked at."""
    account = service_account.Credentials.from_service_account_info(emulator.account(), scopes=SCOPES)
    url = f"{emulator.url}/v1/projects/genqueue/locations/eu/publishers/google/models/{MODEL}:generateContent"
    with httpx.Client(verify=emulator.trust()) as web:
        assertion = account._make_authorization_grant_assertion().decode()
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        granted = web.post(f"{emulator.url}/token", data=form).json()
        body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "store": True}
        assert web.post(url, json=body).json()["error"]["details"][0]["reason"] == "CREDENTIALS_MISSING"
        headers = {"authorization": f"Bearer {granted['access_token']}"}
        refused = web.post(url, json=body, headers=headers)
        forged = web.post(f"{emulator.url}/token", data=form | {"assertion": assertion[:-8] + "AAAAAAAA"})
    assert 'Unknown name "store"' in refused.json()["error"]["message"]
    assert (forged.status_code, json.loads(forged.content)["error"]) == (400, "invalid_grant")
