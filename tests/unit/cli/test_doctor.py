"""What the doctor makes of what it reads."""

import pytest

from genqueue.lanes import QUEUES
from genqueue_worker.doctor.completions import completions
from genqueue_worker.doctor.endpoint import api_key, endpoint
from genqueue_worker.doctor.finding import Finding, without_secrets
from genqueue_worker.doctor.fleet import broker, queues, workers
from genqueue_worker.doctor.server import (
    deployment,
    memory,
    persistence,
    replication,
    room,
    stream_nodes,
    version,
    writing,
)
from genqueue_worker.providers.probe import Probe
from genqueue_worker.settings import WorkerSettings

ALL = frozenset(QUEUES)
HIGH = frozenset({"generate.high", "generate.high.again"})


def answered(status=200, problem=""):
    """Return a probe that reached its endpoint."""
    return Probe(reached=True, status=status, protocol="HTTP/2", seconds=0.0123, problem=problem)


_LIMITED = {"maxmemory_policy": "noeviction", "maxmemory": 2**30, "used_memory": 2**30 / 10}
_REWRITES = {"appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}
UNREACHED = Probe(reached=False, status=None, protocol="", seconds=1.0, problem="refused")


@pytest.mark.parametrize(
    ("finding", "level", "words"),
    [
        (version("h", {"redis_version": "7.0.15"}), "ok", "Redis 7.0.15"),
        (version("h", {"redis_version": "7.2.4", "valkey_version": "9.1.2"}), "ok", "Valkey 9.1.2"),
        (version("h", {"redis_version": "6.2.1"}), "fail", "6.2.1"),
        (version("h", {"redis_version": "8.0.0", "role": "slave"}), "fail", "replica"),
        (version("h", {}), "warn", "cannot be read"),
        (persistence({"aof_enabled": 1}, {"appendfsync": "always"}), "ok", "loses nothing"),
        (persistence({"aof_enabled": 1}, {"appendfsync": "everysec"}), "ok", "last second"),
        (persistence({"aof_enabled": 1}, {"appendfsync": "no"}), "warn", "half minute"),
        (persistence({"aof_enabled": 1}, {}), "ok", "cannot be read"),
        (persistence({"aof_enabled": 0}, {}), "warn", "appendonly no"),
        (persistence({}, {}), "warn", "cannot be read"),
        (persistence({"aof_enabled": 1}, _REWRITES), "warn", "half a minute while"),
        (writing({"aof_enabled": 1}), "ok", "no write"),
        (writing({}), "ok", "cannot be read"),
        (writing({"aof_enabled": 1, "aof_last_write_status": "err"}), "fail", "append-only file"),
        (writing({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}), "fail", "snapshot"),
        (replication({}, {}), "ok", "cannot be read"),
        (replication({"connected_slaves": 1}, {}), "ok", "1 replica;"),
        (replication({"connected_slaves": 0}, {}), "ok", "no replica"),
        (replication({"connected_slaves": 2}, {"min-replicas-to-write": "0"}), "warn", "cut off"),
        (replication({"connected_slaves": 1}, {"min-replicas-to-write": "1"}), "ok", "1 replica;"),
        (memory(_LIMITED), "ok", "10 % of maxmemory 1024 MB"),
        (memory({**_LIMITED, "used_memory": 2**30 * 0.86}, 85), "warn", "used: no answers are kept"),
        (memory({**_LIMITED, "used_memory": 2**30 * 0.93}, 85), "warn", "used: new low jobs"),
        (memory({**_LIMITED, "used_memory": 2**30 * 0.97}, 85), "warn", "used: new low and normal jobs"),
        (memory({**_LIMITED, "used_memory": 2**30 * 0.97}, 100), "ok", "97 %"),
        (memory({**_LIMITED, "used_memory": 2**30 * 1.1}, 100), "warn", "used: new jobs"),
        (memory({"maxmemory_policy": "noeviction", "maxmemory": 0}), "warn", "no maxmemory"),
        (memory({**_LIMITED, "maxmemory_policy": "allkeys-lru"}), "fail", "allkeys-lru"),
        (room({"connected_clients": 5, "maxclients": 100}, {}), "ok", "5 of 100"),
        (room({"connected_clients": 90}, {"maxclients": "100"}), "warn", "90 of 100"),
        (room({"connected_clients": 90}, {}), "ok", "cannot be read"),
        (room({}, {"maxclients": "100"}), "ok", "cannot be read"),
        (memory({}), "warn", "cannot be read"),
        (broker("b:1/0", {}), "ok", "cannot be read"),
        (broker("b:1/0", {"role": "slave"}), "fail", "replica"),
        (broker("b:1/0", {"aof_last_write_status": "err"}), "fail", "append-only file"),
        (broker("b:1/0", {**_LIMITED, "maxmemory_policy": "allkeys-lru"}), "warn", "allkeys-lru"),
        (broker("b:1/0", {**_LIMITED, "used_memory": 2**30 * 0.9}), "warn", "90 % of maxmemory 1024 MB"),
        (broker("b:1/0", _LIMITED), "ok", "noeviction"),
        (stream_nodes({"stream-node-max-bytes": "512"}), "ok", "512"),
        (stream_nodes({"stream-node-max-bytes": "4096"}), "warn", "4096"),
        (stream_nodes({}), "ok", "cannot be read"),
        (deployment("gq:meta", None, None, 64), "ok", "first process"),
        (deployment("gq:meta", 64, 1, 64), "ok", "64 partitions"),
        (deployment("gq:meta", 32, 1, 64), "fail", "32 partitions"),
        (deployment("gq:meta", 64, 2, 64), "fail", "schema 2"),
        (completions(0, [], 0), "ok", "there are none"),
        (completions(2, ['{"task":"t"}'], 0), "ok", "2 to be told"),
        (completions(2, ['{"task":"t"}', '{"url":"https://x"}'], 0), "warn", "no secret"),
        (completions(2, ['{"url":"https://x"}'], 2), "ok", "2 secrets"),
        (queues(dict.fromkeys(QUEUES, 1), {}), "warn", "high 2, normal 2, low 2"),
        (queues(dict.fromkeys(QUEUES, 1), {"w": ALL}), "ok", "high 2"),
        (queues(dict.fromkeys(QUEUES, 0), {}), "ok", "high 0"),
        (workers({}), "warn", "none answers"),
        (workers({"b": ALL, "a": HIGH}), "ok", "2: a, b"),
        (workers({"a": HIGH}), "warn", "nobody consumes normal,low"),
        (endpoint("https://x", answered()), "ok", "TLS, HTTP/2, 12 ms"),
        (endpoint("http://x", answered()), "warn", "no TLS"),
        (endpoint("https://x", answered(503, "busy")), "warn", "HTTP 503: busy"),
        (endpoint("https://x", UNREACHED), "fail", "refused"),
        (api_key(answered(), is_set=True), "ok", "accepted"),
        (api_key(answered(400, "not valid"), is_set=True), "fail", "not valid"),
        (api_key(answered(), is_set=False), "fail", "not set"),
        (api_key(UNREACHED, is_set=True), "warn", "could not be seen"),
    ],
)
def test_judgements(finding, level, words):
    """Each state of affairs has its level; whatever is not ok comes with advice."""
    assert finding.level == level
    assert words in finding.found
    assert finding.advice or level == "ok"


def test_secrets_are_blotted_out_wherever_a_library_wrote_them():
    """The key, passwords of URLs, and credentials in any URL."""
    settings = WorkerSettings.load(data_url="redis://me:s3cr3t@h/0", gemini_api_key="AIzaKey")
    told = "redis://me:p@ss@h/0 refused; used AIzaKey\nand s3cr3t"
    finding = without_secrets(Finding("x", "fail", told, told), settings)
    assert finding.found == finding.advice == "redis://***@h/0 refused; used *** and ***"
