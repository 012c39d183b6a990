"""Checks of the data server: version, durability, memory, and whose deployment it holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, BusyLoadingError, NoPermissionError, RedisError

from genqueue.keys import SCHEMA, Keys
from genqueue.settings import server_name
from genqueue_worker.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue_worker.settings import WorkerSettings

#: Oldest version of the Redis commands that the scripts need.
OLDEST: Final = (7, 0)

#: Seconds one connection, or one command, may take.
PATIENCE: Final = 1.0

#: Bytes per stream node with which short streams stay small.
NODE_BYTES: Final = 512

#: Directives that are looked at.
_DIRECTIVES: Final = (
    "appendfsync",
    "maxclients",
    "min-replicas-to-write",
    "no-appendfsync-on-rewrite",
    "stream-node-max-bytes",
)

#: Share of its connections with which a server is nearly full.
CROWDED: Final = 0.8

#: What a crash of the server loses, by `appendfsync`.
_LOSSES: Final = {
    "always": "a crash loses nothing that was acknowledged",
    "everysec": "a crash loses at most the last second",
    "no": "a crash may lose the last half minute",
}

#: What is refused past the high-water mark, by how far.
_REFUSED: Final = (
    "no answers are kept for equal questions",
    "new low jobs are refused",
    "new low and normal jobs are refused",
    "new jobs are refused",
)

#: What makes a server unreachable, or refuse.
AWAY: Final = (RedisError, OSError, TimeoutError)


def connect(url: str) -> redis.asyncio.Redis:
    """Return a client that gives up quickly."""
    return redis.asyncio.Redis.from_url(
        url,
        protocol=2,
        decode_responses=True,
        socket_connect_timeout=PATIENCE,
        socket_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),
    )


async def check_server(settings: WorkerSettings) -> list[Finding]:
    """Check the data server."""
    where = server_name(settings.data_url)
    async with connect(settings.data_url) as client:
        try:
            await client.ping()
        except AWAY as error:
            return [unusable("data server", where, error, "GENQUEUE_DATA_URL")]
        info, config = await asyncio.gather(read_info(client), _config(client))
        return [
            version(where, info),
            persistence(info, config),
            writing(info),
            replication(info, config),
            memory(info, settings.memory_high_water),
            room(info, config),
            stream_nodes(config),
            await _deployment(client, settings),
        ]


def unusable(check: str, where: str, error: Exception, variable: str) -> Finding:
    """Judge a server that gave an error instead of an answer; `variable` holds its URL."""
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        advice = f"set the user and password in {variable} to what the server asks for"
        return Finding(check, "fail", f"{where} does not let us in: {error}", advice)
    if isinstance(error, BusyLoadingError):
        return Finding(check, "fail", f"{where} reads its data: {error}", "wait until it has")
    return Finding(check, "fail", f"{where} does not answer: {error}", f"start it, or set {variable}")


async def read_info(client: redis.asyncio.Redis) -> dict[str, Any]:
    """Return what a server tells of itself; empty where it keeps that to itself."""
    try:
        found: dict[str, Any] = await client.info()
    except AWAY:
        return {}
    return found


async def _config(client: redis.asyncio.Redis) -> dict[str, str]:
    """Return the directives that are looked at; empty where the server keeps them to itself."""
    try:
        found = await client.config_get(*_DIRECTIVES)
    except AWAY:
        return {}
    return {str(name): str(value) for name, value in found.items()}


def version(where: str, info: Mapping[str, Any]) -> Finding:
    """Judge the server's version and role."""
    spoken = str(info.get("redis_version", ""))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {spoken}"
    if not spoken:
        return Finding("data server", "warn", f"{where} answers; its version cannot be read", "allow INFO")
    if tuple(int(part) for part in spoken.split(".")[:2]) < OLDEST:
        return Finding("data server", "fail", f"{name} at {where}", "use Redis 7.0, Valkey 7.2 or later")
    if info.get("role", "master") != "master":
        return Finding("data server", "fail", f"{name} at {where} is a replica", "set GENQUEUE_DATA_URL to the primary")
    return Finding("data server", "ok", f"{name} at {where}")


def persistence(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    """Judge what is lost when the server crashes."""
    if "aof_enabled" not in info:
        return Finding("persistence", "warn", "cannot be read", "see that the append-only file is on")
    if not info["aof_enabled"]:
        lost = "a crash loses every job since the last snapshot"
        return Finding("persistence", "warn", f"appendonly no: {lost}", "set appendonly yes")
    fsync = config.get("appendfsync")
    if fsync is None:
        advice = "see that appendfsync is everysec or always"
        return Finding("persistence", "ok", "appendonly yes; appendfsync cannot be read", advice)
    found = f"appendonly yes, appendfsync {fsync}: {_LOSSES.get(fsync, 'unknown')}"
    if fsync == "no":
        return Finding("persistence", "warn", found, "set appendfsync everysec, or always to lose nothing")
    if config.get("no-appendfsync-on-rewrite") == "yes":
        lost = f"{found}; no-appendfsync-on-rewrite yes: half a minute while the file is rewritten"
        return Finding("persistence", "warn", lost, "set no-appendfsync-on-rewrite no")
    return Finding("persistence", "ok", found)


def writing(info: Mapping[str, Any]) -> Finding:
    """Judge whether the server can write its files; one that cannot refuses every command that changes anything."""
    if "aof_enabled" not in info:
        return Finding("writing", "ok", "cannot be read", "see that the server's disk does not fill up")
    failing = [
        what
        for what, state in (
            ("append-only file", info.get("aof_last_write_status", "ok")),
            ("rewrite of it", info.get("aof_last_bgrewrite_status", "ok")),
            ("snapshot", info.get("rdb_last_bgsave_status", "ok")),
        )
        if state != "ok"
    ]
    if failing:
        advice = "see the server's log and its disk: it refuses writes, or soon will"
        return Finding("writing", "fail", f"the last {' and the last '.join(failing)} failed", advice)
    return Finding("writing", "ok", "no write to disk failed")


def replication(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    """Judge what a failover loses."""
    if "connected_slaves" not in info:
        advice = "see that min-replicas-to-write is 1, if there are replicas"
        return Finding("replication", "ok", "cannot be read", advice)
    replicas = int(info["connected_slaves"])
    if not replicas:
        return Finding("replication", "ok", "no replica: nothing fails over")
    found = f"{replicas} replica{'s' if replicas > 1 else ''}"
    needed = config.get("min-replicas-to-write")
    if needed == "0":
        lost = f"{found}, min-replicas-to-write 0: a primary cut off from them goes on accepting what is then lost"
        return Finding("replication", "warn", lost, "set min-replicas-to-write 1")
    found += "; a failover loses what they had not received yet, usually under 1 s"
    advice = "see that min-replicas-to-write, which cannot be read, is 1" if needed is None else ""
    return Finding("replication", "ok", found, advice)


def memory(info: Mapping[str, Any], high_water: int = 100) -> Finding:
    """Judge what the server does when its memory is full, and whether it nearly is; `high_water` in percent."""
    policy = info.get("maxmemory_policy")
    if policy is None:
        return Finding("memory", "warn", "cannot be read", "see that maxmemory-policy is noeviction")
    limit = info.get("maxmemory", 0)
    if not limit:
        advice = "set maxmemory below what the machine has, and maxmemory-policy noeviction: then new jobs are refused"
        found = f"maxmemory-policy {policy}, no maxmemory: the kernel ends the server when memory is short"
        return Finding("memory", "warn", found, advice)
    used = 100 * (int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))) / limit
    found = f"maxmemory-policy {policy}, {used:.0f} % of maxmemory {limit / 2**20:.0f} MB used"
    if policy != "noeviction":
        return Finding("memory", "fail", found, "set maxmemory-policy noeviction: the others delete jobs silently")
    if used >= min(high_water, 100):
        level = 3 if used >= 100 else int((used - high_water) * 3 / (100 - high_water))
        advice = "raise maxmemory, or shorten cache_ttl, result_ttl, stream_ttl and dead_ttl"
        return Finding("memory", "warn", f"{found}: {_REFUSED[level]}", advice)
    return Finding("memory", "ok", found)


def room(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    """Judge whether the server has connections left."""
    if "connected_clients" not in info:
        return Finding("connections", "ok", "cannot be read", "see that maxclients is more than all clients need")
    used = int(info["connected_clients"])
    most = info.get("maxclients") or config.get("maxclients")
    if not most:
        return Finding("connections", "ok", f"{used} connections; maxclients cannot be read")
    found = f"{used} of {most} connections"
    if used >= CROWDED * int(most):
        return Finding("connections", "warn", found, "raise maxclients, and the file limit of the server's process")
    return Finding("connections", "ok", found)


def stream_nodes(config: Mapping[str, str]) -> Finding:
    """Judge how much memory short streams take."""
    size = config.get("stream-node-max-bytes")
    if size is None:
        return Finding("streams", "ok", "stream-node-max-bytes cannot be read")
    found = f"stream-node-max-bytes {size}"
    if int(size) == 0 or int(size) > NODE_BYTES:
        advice = f"set stream-node-max-bytes {NODE_BYTES}: a short stream then takes 0.8 KB instead of 4.4 KB"
        return Finding("streams", "warn", found, advice)
    return Finding("streams", "ok", found)


async def _deployment(client: redis.asyncio.Redis, settings: WorkerSettings) -> Finding:
    meta = Keys(settings.key_prefix, settings.partitions).meta()
    try:
        partitions, schema = map(_number, await client.hmget(meta, ["partitions", "schema"]))
    except AWAY as error:
        return Finding("deployment", "fail", f"{meta} cannot be read: {error}", "allow this user the deployment's keys")
    return deployment(meta, partitions, schema, settings.partitions)


def deployment(meta: str, partitions: int | None, schema: int | None, expected: int) -> Finding:
    """Judge whether this process fits the deployment recorded on the server."""
    if partitions is None or schema is None:
        return Finding("deployment", "ok", f"no {meta} yet: the first process makes it")
    found = f"{meta}: {partitions} partitions, schema {schema}"
    if partitions != expected:
        advice = f"set GENQUEUE_PARTITIONS to {partitions}; here it is {expected}"
        return Finding("deployment", "fail", found, advice)
    if schema != SCHEMA:
        return Finding("deployment", "fail", found, f"this version speaks schema {SCHEMA}: run the same everywhere")
    return Finding("deployment", "ok", found)


def _number(value: bytes | str | None) -> int | None:
    return None if value is None else int(value)
