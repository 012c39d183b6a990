"""`genqueue doctor` with Vertex AI configured."""

import json

import pytest
from click.testing import CliRunner

from genqueue.cli import main


@pytest.fixture
def examine(server, emulator, prefix, tmp_path):
    """Return a function that gives the exit status, the checks by name, and all that was printed."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps(emulator.account()))
    environment = {
        "GENQUEUE_DATA_URL": server.url(),
        "GENQUEUE_KEY_PREFIX": prefix,
        "GENQUEUE_VERTEX_PROJECT": "genqueue",
        "GENQUEUE_VERTEX_LOCATION": "europe-west4",
        "GENQUEUE_VERTEX_BASE_URL": emulator.url,
        "GENQUEUE_VERTEX_CA_FILE": str(emulator.ca_file),
        "GENQUEUE_VERTEX_CREDENTIALS": str(file),
    }

    def examine(**changed):
        ended = CliRunner(env=environment | changed).invoke(main, ["doctor", "--json"])
        return ended.exit_code, {check["check"]: check for check in json.loads(ended.stdout)["checks"]}, ended.output

    examine.file = file
    return examine


def test_an_account_that_may_generate_is_fine(examine):
    """It signs in and counts the tokens of a word, which costs nothing."""
    status, checks, printed = examine()
    assert status == 0
    assert "TLS, HTTP/2" in checks["vertex endpoint"]["found"]
    assert checks["vertex key"]["found"] == "set and accepted"
    assert "ya29." not in printed


def test_an_account_without_a_role_is_told_which(examine):
    """Google names the permission, the advice the role."""
    status, checks, _ = examine(GENQUEUE_VERTEX_PROJECT="forbidden")
    assert status == 1
    assert "aiplatform.endpoints.predict" in checks["vertex key"]["found"]
    assert "Vertex AI User" in checks["vertex key"]["advice"]


def test_credentials_that_are_none_fail_though_the_endpoint_is_there(examine):
    """The endpoint is asked all the same; the key's row says what is wrong with the file."""
    examine.file.write_text("{}")
    status, checks, _ = examine()
    assert status == 1
    assert checks["vertex endpoint"]["level"] == "ok"
    assert "no access token for Vertex AI" in checks["vertex key"]["found"]
