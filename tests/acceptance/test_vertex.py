"""A real worker that asks Vertex AI beside the Developer API, signed in by a service account's key."""

import json

import pytest

from genqueue import JobFailed


@pytest.fixture
def account(own_emulator, tmp_path):
    """Return the settings of a project in Europe, with a key made for it."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps(own_emulator.account()))
    return {
        "GENQUEUE_VERTEX_PROJECT": "genqueue",
        "GENQUEUE_VERTEX_LOCATION": "europe-west4",
        "GENQUEUE_VERTEX_BASE_URL": own_emulator.url,
        "GENQUEUE_VERTEX_CA_FILE": str(own_emulator.ca_file),
        "GENQUEUE_VERTEX_CREDENTIALS": str(file),
    }


def test_a_job_runs_where_its_data_may_go(start_worker, client, own_emulator, account):
    """In the region it names, also after Google took the worker's token back; what the surface lacks is told."""
    start_worker(**account)
    confined = {"model": "vertex/gemini-2.5-flash", "residency": ["europe-west4"], "labels": {"team": "a"}}
    assert len(client.submit("Why is the sky blue?", **confined).result(30).text.split()) == 40
    own_emulator.revoke_tokens()
    again = client.submit("Why is the sea blue?", **confined).result(30)
    assert (again.model, len(again.text.split())) == ("gemini-2.5-flash", 40)
    assert own_emulator.tokens()["issued"] == 2
    paths = [one["path"] for one in own_emulator.stats()["requests"] if "streamGenerateContent" in one["path"]]
    assert all(path.startswith("/v1/projects/genqueue/locations/europe-west4/") for path in paths)
    with pytest.raises(JobFailed, match="Vertex AI takes no store; the Gemini Developer API does") as raised:
        client.submit("Keep this.", model="vertex/gemini-2.5-flash", config={"store": True}).result(30)
    assert raised.value.code == "unsupported"
