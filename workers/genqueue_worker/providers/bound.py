"""How long a request may take in all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx


class Bound:
    """The moment by which a request must have ended, in so many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = asyncio.get_running_loop().time() + seconds

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Run a part of the request; raises httpx.ReadTimeout when its time is up."""
        try:
            async with asyncio.timeout_at(self._end):
                yield
        except TimeoutError:
            raise httpx.ReadTimeout(f"it took longer than {self._seconds:g} s in all, its total timeout") from None


class BoundStream(httpx.AsyncByteStream):
    """An answer's body, within its request's bound."""

    def __init__(self, stream: httpx.AsyncByteStream, bound: Bound) -> None:
        self._stream, self._bound = stream, bound

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            async with self._bound.kept():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        """End the request."""
        await self._stream.aclose()
