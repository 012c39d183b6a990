"""Large inline data of requests: fetched from the blob store for the provider, and deleted with the request."""

from __future__ import annotations

import asyncio
import base64
import logging
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import RedisError

from genqueue.errors import BlobsUnavailable, PayloadUnreadable
from genqueue.payload.blobs import BlobReference
from genqueue.request.contents import inline_parts
from genqueue_worker.documents import Unreadable
from genqueue_worker.providers.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.payload.blobs import BlobStore
    from genqueue_worker.attempt import Attempt
    from genqueue_worker.providers.seam import Chunk, ProviderRequest, Route, Source

log = logging.getLogger("genqueue.cargo")

#: Seconds an uploaded file's deletion may take; the provider deletes it in any case two days later.
DISCARD_PATIENCE: Final = 5.0


class Room:
    """A bound on the bytes that attempts hold together; they enter in order, and one that needs all goes alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """Hold some bytes while the block runs, once there is room for them."""
        async with self._turn:
            while self._taken and self._taken + size > self._size:
                self._freed.clear()
                await self._freed.wait()
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            self._freed.set()


@dataclass(frozen=True, slots=True)
class Limits:
    """How many bytes of inline data there may be.

    Attributes:
        inline: in one request to the provider, as base64; what is more is uploaded as files.
        held: in the memory of this process, fetched and not yet sent.
    """

    inline: int
    held: int


class Cargo:
    """Fetches what requests refer to, hands it to the provider, and deletes it when the request is gone.

    Args:
        store: where it is; None in a deployment without a blob store.
        data: connection to the data server, which knows whether a request is still kept.
    """

    def __init__(self, store: BlobStore | None, data: redis.asyncio.Redis, keys: Keys, limits: Limits) -> None:
        self._store = store
        self._data = data
        self._keys = keys
        self._inline = limits.inline
        self._room = Room(limits.held)

    async def stream(
        self, attempt: Attempt, request: ProviderRequest, provider: Source, route: Route
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the answer to a request some of whose inline data is in the blob store.

        Raises:
            ProviderError: the provider's, or `blob_missing`, `blobs_unavailable`.
            Unreadable: the request refers to no blob, or no key here opens one.
        """
        inside, files = plan(request, self._inline)
        attempt.blob_folders.update(item.reference.tenant for item in (*inside, *files))
        at_once = max(sum(item.reference.size for item in inside), *(item.reference.size for item in files), 0)
        uploaded: list[str] = []
        async with AsyncExitStack() as ending:
            ending.push_async_callback(_discard, uploaded, provider, route)
            holding = await ending.enter_async_context(AsyncExitStack())
            await holding.enter_async_context(self._room.held(at_once))
            for item in files:
                data = await self._fetch(attempt.flight, item.reference)
                uploaded.append(await provider.upload(data, item.mime_type, route))
                item.name_file(uploaded[-1])
                del data
            for item in inside:
                item.fill(await self._fetch(attempt.flight, item.reference))
            chunks = await ending.enter_async_context(aclosing(provider.stream(request, route)))
            del request, inside, files
            async for chunk in chunks:
                await holding.aclose()  # the provider has it all by now
                yield chunk

    async def _fetch(self, flight: str, reference: BlobReference) -> bytes:
        if self._store is None:
            raise ProviderError("blobs_unavailable", "GENQUEUE_BLOB_URL is not set in the worker", retryable=True)
        try:
            data = await asyncio.to_thread(self._store.fetch, flight, reference)
        except BlobsUnavailable as error:
            raise ProviderError("blobs_unavailable", str(error), retryable=True) from error
        except PayloadUnreadable as error:
            raise Unreadable(str(error), elsewhere=True) from error
        if data is None:
            message = f"inline data of {reference.size} bytes (sha256 {reference.sha256}) is not in the blob store"
            raise ProviderError("blob_missing", message)
        return data

    async def let_go(self, attempt: Attempt) -> None:
        """Delete the blobs of an attempt's flight if its request is no more; what fails is left to `blobs clean`."""
        if not attempt.blob_folders or self._store is None:
            return
        try:
            if await self._data.hexists(self._keys.flight(attempt.flight), "request"):
                return
            for tenant in attempt.blob_folders:
                await asyncio.to_thread(self._store.delete, tenant, attempt.flight)
        except (RedisError, OSError, BlobsUnavailable) as error:
            log.warning("cargo.left flight=%s error=%s; genqueue blobs clean deletes it", attempt.flight, error)


@dataclass(frozen=True, slots=True)
class Item:
    """A part of a request whose inline data is in the blob store."""

    part: dict[str, Any]
    reference: BlobReference

    @classmethod
    def of(cls, part: dict[str, Any]) -> Item:
        """Return the item of a part; raises Unreadable when it refers to nothing."""
        try:
            return cls(part, msgspec.convert(part["inlineData"]["blob"], BlobReference))
        except msgspec.ValidationError as error:
            raise Unreadable(f"The stored request refers to no blob: {error}", elsewhere=False) from error

    @property
    def mime_type(self) -> str:
        """What the data is."""
        return str(self.part["inlineData"].get("mimeType", "application/octet-stream"))

    @property
    def encoded(self) -> int:
        """Bytes of the data as base64."""
        return -(-self.reference.size // 3) * 4

    def fill(self, data: bytes) -> None:
        """Put the data where it was."""
        del self.part["inlineData"]["blob"]
        self.part["inlineData"]["data"] = base64.b64encode(data).decode()

    def name_file(self, uri: str) -> None:
        """Put an uploaded file in the data's place."""
        self.part["fileData"] = {"mimeType": self.mime_type, "fileUri": uri}
        del self.part["inlineData"]


def plan(request: ProviderRequest, limit: int) -> tuple[list[Item], list[Item]]:
    """Return what is sent inside a request of at most `limit` bytes, and what is uploaded before, the largest first."""
    parts = inline_parts(request.contents, request.system_instruction)
    inside = [Item.of(part) for _, part in parts if "blob" in part["inlineData"]]
    total = len(msgspec.json.encode(request)) + sum(item.encoded for item in inside)
    inside.sort(key=lambda item: item.encoded)
    files: list[Item] = []
    while inside and total > limit:
        files.append(inside.pop())
        total -= files[-1].encoded
    return inside, files


async def _discard(uris: list[str], provider: Source, route: Route) -> None:
    for uri in uris:
        try:
            async with asyncio.timeout(DISCARD_PATIENCE):
                await provider.discard(uri, route)
        except (ProviderError, TimeoutError) as error:
            log.info("cargo.file_left uri=%s error=%s; the provider deletes it two days later", uri, error)
