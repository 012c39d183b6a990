"""Documents between the data server and an attempt: opened and sealed, large ones off the loop."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genqueue.errors import PayloadUnreadable
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import ProviderRequest, decode_request

if TYPE_CHECKING:
    from genqueue.ledger import Settlement
    from genqueue.payload.codec import Codec
    from genqueue_worker.attempt import Attempt

log = logging.getLogger("genqueue.attempt")

#: Bytes from which a document is worked on in a thread: the loop has other streams to serve.
LARGE: Final = 16 * 1024

#: How a reference to a blob stands in canonical JSON.
_BLOB: Final = b'"blob":'


class Unreadable(Exception):
    """What is stored cannot be read here.

    Attributes:
        elsewhere: whether another worker may be able to: it may have the key.
    """

    def __init__(self, why: str, *, elsewhere: bool) -> None:
        super().__init__(why)
        self.elsewhere = elsewhere


async def take_request(codec: Codec, attempt: Attempt) -> tuple[ProviderRequest, bool]:
    """Return what to generate, and whether some of its inline data may be in the blob store.

    The stored document is let go of: a large one would stay for the whole attempt.

    Raises:
        Unreadable: it is no request, or no key here opens it.
    """
    stored, attempt.stored = attempt.stored or b"", b""
    try:
        return await _opened(codec, stored)
    except Unreadable as error:
        advice = "give every worker the keys in use" if error.elsewhere else "it is a dead letter: replay or drop it"
        log.warning("attempt.unreadable flight=%s error=%s; %s", attempt.flight, error, advice)
        raise


async def read_request(codec: Codec, stored: bytes) -> ProviderRequest:
    """Return the request in a stored document; raises Unreadable."""
    request, _ = await _opened(codec, stored)
    return request


async def _opened(codec: Codec, stored: bytes) -> tuple[ProviderRequest, bool]:
    try:
        if len(stored) < LARGE and stored[:1] == b"{":
            return _read(codec, stored)
        return await asyncio.to_thread(_read, codec, stored)
    except PayloadUnreadable as error:
        raise Unreadable(str(error), elsewhere=True) from error
    except (ProviderError, RecursionError) as error:
        why = error.message if isinstance(error, ProviderError) else f"The stored request cannot be read: {error}"
        raise Unreadable(why, elsewhere=False) from error


def _read(codec: Codec, stored: bytes) -> tuple[ProviderRequest, bool]:
    document = codec.open("request", stored)
    return decode_request(document), _BLOB in document


async def sealed(codec: Codec, told: Settlement) -> Settlement:
    """Return a settlement as it is stored: the result compressed when large, and sealed with all that was said."""
    if not codec.seals and len(told.result) < LARGE:
        return told
    if len(told.result) < LARGE:
        return _sealed(codec, told)
    return await asyncio.to_thread(_sealed, codec, told)


def _sealed(codec: Codec, told: Settlement) -> Settlement:
    result = told.result.encode() if isinstance(told.result, str) else told.result
    return replace(
        told,
        result=codec.seal("result", result) if result else b"",
        replay=None if told.replay is None else [codec.seal_entry(entry) for entry in told.replay],
        detail=codec.seal_entry(told.detail),
    )
