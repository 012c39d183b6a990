"""Connections to the provider as without a pool: each request opens one of its own, and closes it with its answer."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx

from genqueue_worker.providers.connections import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class _Own(httpx.AsyncByteStream):
    """The body of an answer whose connection ends with it."""

    def __init__(self, body: Any, connection: AsyncExitStack) -> None:
        self._body = body
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        found: AsyncIterator[bytes] = aiter(self._body)
        return found

    async def aclose(self) -> None:
        await self._body.aclose()
        await self._connection.aclose()


def unpool() -> None:
    """Open a connection for each request, instead of taking one that is open."""
    send = ConnectionPool.handle_async_request

    async def send_alone(pool: ConnectionPool, request: httpx.Request) -> httpx.Response:
        async with AsyncExitStack() as stack:
            alone = ConnectionPool(pool._options)  # noqa: SLF001 - it is to be the same but for what it has open
            stack.push_async_callback(alone.aclose)
            response = await send(alone, request)
            response.stream = _Own(response.stream, stack.pop_all())
        return response

    setattr(ConnectionPool, "handle_async_request", send_alone)  # noqa: B010 - a method of another's
