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

#: What a crash of the server loses, by `appendfsync`.
_LOSSES: Final = {
    "always": "a crash loses nothing that was acknowledged",
    "everysec": "a crash loses at most the last second",
    "no": "a crash may lose the last half minute",
}

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
        info, config = await asyncio.gather(_info(client), _config(client))
        return [
            version(where, info),
            persistence(info, config),
            memory(info),
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


async def _info(client: redis.asyncio.Redis) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await client.info()
    except AWAY:
        return {}
    return found


async def _config(client: redis.asyncio.Redis) -> dict[str, str]:
    """Return the directives that are looked at; empty where the server keeps them to itself."""
    try:
        found = await client.config_get("appendfsync", "stream-node-max-bytes")
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
    return Finding("persistence", "ok", found)


def memory(info: Mapping[str, Any]) -> Finding:
    """Judge what the server does when its memory is full."""
    policy = info.get("maxmemory_policy")
    if policy is None:
        return Finding("memory", "warn", "cannot be read", "see that maxmemory-policy is noeviction")
    limit = info.get("maxmemory", 0)
    found = f"maxmemory-policy {policy}, " + (f"maxmemory {limit / 2**20:.0f} MB" if limit else "no maxmemory")
    if policy == "noeviction":
        return Finding("memory", "ok", found)
    advice = "set maxmemory-policy noeviction: the others delete jobs silently"
    return Finding("memory", "fail" if limit else "warn", found, advice)


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
