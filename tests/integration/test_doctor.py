"""`genqueue doctor` against real servers: what it says, how fast, and what it keeps to itself."""

import json
import time
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from genqueue.cli import main
from genqueue_lab.servers import RedisServer, free_port

GUIDE = Path(__file__).parents[2] / "ops" / "celery.md"

#: A password and a key that must never be seen.
PASSWORD, KEY = "hunter-2-hunter", "wrong-secret-key"


def examine(environment, *options):
    """Return the exit status, the checks by name, and all that was printed."""
    ended = CliRunner(env=environment).invoke(main, ["doctor", "--json", *options])
    report = json.loads(ended.stdout)
    assert report["ok"] == (ended.exit_code == 0)
    return ended.exit_code, {check["check"]: check for check in report["checks"]}, ended.output


@pytest.fixture
def environment(server, emulator, prefix):
    """Return the variables of a deployment without workers."""
    return {
        "GENQUEUE_DATA_URL": server.url(),
        "GENQUEUE_KEY_PREFIX": prefix,
        "GENQUEUE_GEMINI_BASE_URL": emulator.url,
        "GENQUEUE_GEMINI_CA_FILE": str(emulator.ca_file),
        "GENQUEUE_GEMINI_API_KEY": "good-key",
    }


def test_a_refused_key_fails_and_is_not_shown(environment):
    """The provider's own words are, and the endpoint itself is fine."""
    status, checks, printed = examine(environment | {"GENQUEUE_GEMINI_API_KEY": KEY})
    assert status == 1
    assert checks["key"]["level"] == "fail"
    assert "API key not valid" in checks["key"]["found"]
    assert "TLS, HTTP/2" in checks["endpoint"]["found"]
    assert KEY not in printed


def test_every_provider_and_the_model_table_are_checked(environment, emulator, tmp_path):
    """Each provider has rows of its own; a table that is wrong is told with all that is wrong."""
    table = tmp_path / "models.toml"
    table.write_text('[aliases]\nspare = "gpt-4.1"\n')
    both = environment | {
        "GENQUEUE_OPENAI_BASE_URL": f"{emulator.url}/v1",
        "GENQUEUE_OPENAI_CA_FILE": str(emulator.ca_file),
        "GENQUEUE_OPENAI_API_KEY": KEY,
        "GENQUEUE_MODELS_FILE": str(table),
    }
    status, checks, printed = examine(both)
    assert status == 1
    assert (checks["key"]["level"], checks["openai key"]["level"], checks["models"]["level"]) == ("ok", "fail", "ok")
    assert "TLS, HTTP/2" in checks["openai endpoint"]["found"]
    assert "3 aliases" in checks["models"]["found"]
    assert KEY not in printed
    table.write_text("[aliases]\nspare = 1\n[other]\n")
    _, checks, _ = examine(both)
    assert checks["models"]["level"] == "fail"
    assert "[aliases] 'spare': got 1" in checks["models"]["found"]
    assert "[other]: no such table" in checks["models"]["found"]


def test_a_missing_worker_is_a_warning(environment):
    """A deployment can be checked before its workers start."""
    status, checks, _ = examine(environment)
    assert status == 0
    assert checks["workers"]["level"] == "warn"
    assert checks["workers"]["advice"] == "start one: genqueue worker"


def test_nothing_is_written(environment, server, prefix):
    """The deployment's constants are left for the first process to make."""
    _, checks, _ = examine(environment)
    assert "first process" in checks["deployment"]["found"]
    with redis.Redis.from_url(server.url()) as client:
        assert not client.keys(f"{prefix}:*")


def test_everything_down_is_quick_and_keeps_secrets(environment):
    """Each failing part is named within 5 s, without passwords."""
    down = {
        "GENQUEUE_DATA_URL": f"redis://me:{PASSWORD}@127.0.0.1:{free_port()}/0",
        "GENQUEUE_GEMINI_BASE_URL": f"https://127.0.0.1:{free_port()}",
    }
    began = time.monotonic()
    status, checks, printed = examine(environment | down)
    assert time.monotonic() - began < 5
    assert status == 1
    assert [name for name, check in checks.items() if check["level"] == "fail"] == ["data server", "broker", "endpoint"]
    assert PASSWORD not in printed


@pytest.mark.parametrize("credentials", ["", f"default:wrong-{PASSWORD}@", f"nobody:{PASSWORD}@"])
def test_a_wrong_password_is_called_that(environment, own_server, credentials):
    """The server runs: nobody is told to start it, but which variable holds the wrong password."""
    with redis.Redis.from_url(own_server.url()) as client:
        client.config_set("requirepass", PASSWORD)
    url = f"redis://{credentials}127.0.0.1:{own_server.port}/0"
    status, checks, printed = examine(environment | {"GENQUEUE_DATA_URL": url})
    assert status == 1
    for name in ("data server", "broker"):
        assert "does not let us in" in checks[name]["found"]
        assert checks[name]["advice"] == "set the user and password in GENQUEUE_DATA_URL to what the server asks for"
    assert PASSWORD not in printed


def test_an_untrusted_certificate_is_named(environment):
    """The endpoint's row says what is wrong with it."""
    status, checks, _ = examine(environment | {"GENQUEUE_GEMINI_CA_FILE": None})
    assert status == 1
    assert "certificate" in checks["endpoint"]["found"]
    assert "GENQUEUE_GEMINI_CA_FILE" in checks["endpoint"]["advice"]


def test_a_managed_server_that_hides_its_configuration(environment, own_server):
    """What cannot be read is said, and fails nothing."""
    with redis.Redis.from_url(own_server.url()) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-config", "-info")
    url = f"redis://app:{PASSWORD}@127.0.0.1:{own_server.port}/0"
    status, checks, printed = examine(environment | {"GENQUEUE_DATA_URL": url})
    assert status == 0
    hidden = [name for name, check in checks.items() if "cannot be read" in check["found"]]
    assert hidden == ["data server", "persistence", "writing", "replication", "memory", "connections", "streams"]
    assert PASSWORD not in printed


def test_the_user_of_the_guide_is_let_in(environment, own_server):
    """All is examined but the configuration; with no memory left, who works cannot be asked, and that is said."""
    rights = next(line for line in GUIDE.read_text().splitlines() if line.startswith("ACL SETUSER"))
    with redis.Redis.from_url(own_server.url()) as client:
        client.execute_command(*rights.replace("secret", PASSWORD).split())
        named = {"GENQUEUE_DATA_URL": f"redis://genqueue:{PASSWORD}@127.0.0.1:{own_server.port}/0"}
        named["GENQUEUE_KEY_PREFIX"] = "gq"
        status, checks, _ = examine(environment | named)
        assert (status, checks["workers"]["found"]) == (0, "none answers within 1 s")
        hidden = [name for name, check in checks.items() if "cannot be read" in check["found"]]
        assert hidden == ["persistence", "streams"]
        client.config_set("maxmemory", 1)
        _, checks, _ = examine(environment | named)
    assert "new jobs are refused" in checks["memory"]["found"]
    assert "cannot be asked" in checks["workers"]["found"]


def test_a_server_that_deletes_jobs_fails(environment, tmp_path):
    """Eviction is a failure; no append-only file and large stream nodes are warnings."""
    config = {
        "appendonly": "no",
        "maxmemory": "100mb",
        "maxmemory-policy": "allkeys-lru",
        "stream-node-max-bytes": "4096",
    }
    with RedisServer(directory=tmp_path, config=config) as careless:
        status, checks, _ = examine(environment | {"GENQUEUE_DATA_URL": careless.url()})
    assert status == 1
    levels = {name: checks[name]["level"] for name in ("persistence", "memory", "streams")}
    assert levels == {"persistence": "warn", "memory": "fail", "streams": "warn"}


def test_wrong_settings_are_all_listed_without_passwords():
    """Nothing else is tried, and the table is plain text."""
    wrong = {"GENQUEUE_DATA_URL": f"http://me:{PASSWORD}@h/0", "GENQUEUE_SLOTS": "many", "GENQUEUE_LANES": "turbo"}
    ended = CliRunner(env=wrong).invoke(main, ["doctor"])
    assert ended.exit_code == 1
    rows = [line for line in ended.stdout.splitlines() if line.startswith("fail")]
    assert len(rows) == 3
    assert all(any(name in row for row in rows) for name in wrong)
    assert PASSWORD not in ended.output
