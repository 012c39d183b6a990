"""A reader of a peer's stream: one blocking XREAD, on a connection that is his for as long as he waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

#: Milliseconds one read waits for further entries.
BLOCK: Final = 2000


async def follow(database: Redis, stream: str) -> AsyncIterator[None]:
    """Yield at each delta of a stream, up to its end; raises RuntimeError when that is a failure."""
    last: Any = "0"
    while True:
        answer: Any = await database.xread({stream: last}, block=BLOCK)
        for entry_id, fields in answer[0][1] if answer else ():
            last = entry_id
            match fields[b"type"]:
                case b"delta":
                    yield
                case b"completed":
                    return
                case b"failed":
                    raise RuntimeError(f"the job failed: {fields}")
