"""Commands to the data server and its replies, without what redis-py's asyncio connections do for each.

They pack commands in Python, in seven times the time that hiredis takes, as blocking connections have it. And they
begin and end a timeout for each reply, though of a pipeline's replies nearly all are there when the first one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import DataError, RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Packing:
    """Mixed into an asyncio connection."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return one command as it is sent; raises DataError for an argument that cannot be."""
        name = args[0]
        words = name.encode().split() if isinstance(name, str) else name.split()  # "SCRIPT LOAD" goes as two
        try:
            return [hiredis.pack_command((*words, *args[1:]))]
        except TypeError as error:
            raise DataError(f"a command has an argument that cannot be sent: {error}") from error

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Return commands as they are sent together."""
        return [b"".join([piece for command in commands for piece in self.pack_command(*command)])]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next reply, at once when it is here already; raises what redis-py raises."""
        parser = self._parser  # type: ignore[attr-defined]
        plain = not (args or options or self.health_check_interval)  # type: ignore[attr-defined]
        if plain and parser._connected and parser._reader.has_data():  # noqa: SLF001 - redis-py has no other way to it
            reply = parser._reader.gets()  # noqa: SLF001
            if isinstance(reply, ResponseError):
                raise reply
            if reply is not NOT_ENOUGH_DATA and not isinstance(reply, RedisError):
                return reply
            if isinstance(reply, RedisError):
                await self.disconnect(nowait=True)  # type: ignore[attr-defined]
                raise reply
        return await super().read_response(*args, **options)  # type: ignore[misc]
