"""The ledger's scripts, and how one is run on a server that may not know it yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis
    import redis.asyncio

#: Lua files that go in front of each script's own, in this order.
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "reserve": (),
    "submit": ("lib", "memory", "flight"),
    "claim": ("lib", "flight"),
    "append": ("lib",),
    "renew": ("lib",),
    "settle": ("lib", "memory", "flight"),
    "leave": ("lib", "flight"),
    "revoke": ("lib", "flight"),
    "sweep": ("lib", "memory", "flight"),
    "mark": (),
    "collect": ("lib", "flight"),
    "delivered": ("lib", "flight"),
    "take": ("lib",),
    "acknowledge": ("lib",),
    "purge": ("lib", "memory", "flight"),
    "drop": ("lib", "flight"),
}


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as the server gets it.

    Attributes:
        name: what it does, e.g. "claim".
        source: its whole text.
        sha: SHA-1 of the text in hex, the name the server knows it by.
    """

    name: str
    source: str
    sha: str

    @classmethod
    def of(cls, name: str, source: str) -> Self:
        """Return the script of a text."""
        return cls(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script; may be repeated with the same effect as once.

    Attributes:
        script: what to run.
        keys: names of keys; all in one slot.
        args: what the head of the script's file describes.
    """

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]

    @property
    def command(self) -> tuple[str | bytes | int, ...]:
        """The command that runs it on a server that knows the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


def _load(name: str) -> Script:
    # Under maxmemory new work is refused; work that was accepted goes on.
    head = "#!lua\n" if name in {"reserve", "submit"} else "#!lua flags=allow-oom\n"
    folder = files("genqueue") / "lua"
    texts = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*_PARTS[name], name)]
    return Script.of(name, head + "\n".join(texts))


RESERVE: Final = _load("reserve")
SUBMIT: Final = _load("submit")
CLAIM: Final = _load("claim")
APPEND: Final = _load("append")
RENEW: Final = _load("renew")
SETTLE: Final = _load("settle")
LEAVE: Final = _load("leave")
REVOKE: Final = _load("revoke")
SWEEP: Final = _load("sweep")
MARK: Final = _load("mark")
COLLECT: Final = _load("collect")
DELIVERED: Final = _load("delivered")
TAKE: Final = _load("take")
ACKNOWLEDGE: Final = _load("acknowledge")
PURGE: Final = _load("purge")
DROP: Final = _load("drop")

#: Every script.
SCRIPTS: Final = (
    RESERVE,
    SUBMIT,
    CLAIM,
    APPEND,
    RENEW,
    SETTLE,
    LEAVE,
    REVOKE,
    SWEEP,
    MARK,
    COLLECT,
    DELIVERED,
    TAKE,
    ACKNOWLEDGE,
    PURGE,
    DROP,
)


class HalfDone(RedisConnectionError):
    """Some of many calls were carried out; the others, whose script the server did not know, could not be repeated."""


def run(client: redis.Redis, call: Call) -> Any:
    """Run a call and return the raw reply; a server that does not know the script is given it first."""
    try:
        return client.execute_command(*call.command)
    except NoScriptError:
        client.script_load(call.script.source)
        return client.execute_command(*call.command)


def run_many(client: redis.Redis, calls: Sequence[Call], meanwhile: Callable[[], None] | None = None) -> list[Any]:
    """Run calls like `arun_many`, on a blocking client."""
    replies = _blocking_pipeline(client, calls, meanwhile)
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if not unknown:
        return replies
    try:
        for source in {calls[index].script.source for index in unknown}:
            client.script_load(source)
        again = _blocking_pipeline(client, [calls[index] for index in unknown])
    except (RedisError, OSError) as error:
        if len(unknown) < len(calls):
            raise HalfDone(str(error)) from error
        raise
    for index, reply in zip(unknown, again, strict=True):
        replies[index] = reply
    return replies


def _blocking_pipeline(
    client: redis.Redis, calls: Sequence[Call], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    # Not redis-py's own pipeline: that lets nobody do anything between sending and waiting.
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands([call.command for call in calls]))
        if meanwhile is not None:
            meanwhile()
        return [_reply(connection) for _ in calls]
    except BaseException:
        connection.disconnect()  # what is still to come on it is nobody's
        raise
    finally:
        pool.release(connection)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


async def arun(client: redis.asyncio.Redis, call: Call) -> Any:
    """Run a call like `run`, on an asyncio client."""
    try:
        return await client.execute_command(*call.command)
    except NoScriptError:
        await client.script_load(call.script.source)
        return await client.execute_command(*call.command)


async def arun_many(
    client: redis.asyncio.Redis, calls: Sequence[Call], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    """Run calls in one pipeline and return their raw replies in order.

    Where the server refused a call stands its exception. A call whose script the server did not know is repeated behind
    the others: a later one that rests on it answers as if the earlier were lost, which every script can tell.
    `meanwhile` is called when they are sent.

    Raises:
        HalfDone: the repeat failed, whatever became of the others.
    """
    replies = await _pipeline(client, calls, meanwhile)
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if not unknown:
        return replies
    try:
        for source in {calls[index].script.source for index in unknown}:
            await client.script_load(source)
        again = await _pipeline(client, [calls[index] for index in unknown])
    except (RedisError, OSError) as error:
        if len(unknown) < len(calls):
            raise HalfDone(str(error)) from error
        raise
    for index, reply in zip(unknown, again, strict=True):
        replies[index] = reply
    return replies


async def _pipeline(
    client: redis.asyncio.Redis, calls: Sequence[Call], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    # Nor here: it costs a quarter more, and this is on the way of every token.
    pool = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command(connection.pack_commands([call.command for call in calls]))
        if meanwhile is not None:
            meanwhile()
        return [await _areply(connection) for _ in calls]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


async def _areply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
