"""What a foreign reader needs, from each handle of a job."""

import json

import pytest
import redis
from click.testing import CliRunner
from tests.integration.client_sides import CLIENTS

from genqueue.cli import main
from genqueue.keys import Keys

MODEL = "gemini-3-flash-preview"


@pytest.mark.parametrize("kind", CLIENTS)
def test_known_after_submit_without_a_server(kind, own_server):
    """Whoever has submitted needs nobody to ask; whoever has the id finds the same."""
    client = CLIENTS[kind](data_url=own_server.url())
    submitted = client.submit("What?", model=MODEL)
    found = client.job(submitted.id)
    keys = Keys()
    with redis.Redis.from_url(own_server.url()) as server:
        flight, mark = server.hmget(keys.job(submitted.id), "flight", "mark")
        assert (found.stream_key, found.leave_mark) == (keys.events(flight.decode()), mark.decode())
        assert server.xlen(submitted.stream_key) == 1
    own_server.kill()
    assert (submitted.stream_key, submitted.leave_mark) == (found.stream_key, found.leave_mark)
    client.close()


def test_command_prints_them(database_url, prefix):
    """`genqueue submit --json` gives a shell what reader.sh takes."""
    environment = {"GENQUEUE_DATA_URL": database_url, "GENQUEUE_KEY_PREFIX": prefix}
    printed = json.loads(CliRunner().invoke(main, ["submit", "What?", "--json"], env=environment).stdout)
    with redis.Redis.from_url(database_url) as server:
        mark = server.hget(Keys(prefix).job(printed["job_id"]), "mark")
        assert printed["leave_mark"] == mark.decode()
        assert server.xlen(printed["stream_key"]) == 1
