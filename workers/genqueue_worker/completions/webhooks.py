"""Sending webhooks as https://www.standardwebhooks.com says: signed, to checked addresses, without redirects."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpcore

from genqueue_worker.completions.addresses import AddressRule, CheckedBackend, Network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

#: Seconds one delivery may take, from the look-up of the host to the head of the answer.
TIMEOUT: Final = 15.0

#: Connections at once, and seconds an idle one is kept.
_CONNECTIONS: Final = 64
_IDLE: Final = 30.0

#: Bytes of an answer's body that are read, and seconds, to keep the connection; what takes more is cut off with it.
_BODY: Final = 16 * 1024
_DRAIN: Final = 1.0

#: What sending and reading may fail with.
_BROKEN: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, ValueError)


class NotSent(Exception):
    """There was no answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One webhook.

    Attributes:
        id: the same whenever the same is told again.
        body: JSON.
        traceparent: W3C trace context; "" without one.
    """

    id: str
    body: bytes
    traceparent: str = ""


def signature(secrets: Sequence[bytes], message: Message, timestamp: int) -> str:
    """Return the signatures of a message, one for each secret."""
    signed = b".".join((message.id.encode(), str(timestamp).encode(), message.body))
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in secrets)


def _pool(backend: CheckedBackend, context: ssl.SSLContext | None) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=_CONNECTIONS,
        max_keepalive_connections=_CONNECTIONS,
        keepalive_expiry=_IDLE,
        network_backend=backend,
    )


class Webhooks:
    """Posts messages. Close it.

    Below httpx on purpose: nothing here follows redirects, reads proxies from the environment or keeps cookies.

    Args:
        secrets: keys to sign with; more than one while they are rotated.
        networks: addresses that are allowed though they are not public, by plain http too.
        threads: in which names are looked up.
        ca_file: PEM file with a certificate authority to trust besides the system's.
    """

    def __init__(
        self, secrets: Sequence[bytes], networks: Sequence[Network], threads: Executor, ca_file: str | None = None
    ) -> None:
        self._secrets = tuple(secrets)
        context = ssl.create_default_context()
        if ca_file:
            context.load_verify_locations(ca_file)
        listed = tuple(networks)
        self._pools = {
            "https": _pool(CheckedBackend(AddressRule(listed), threads), context),
            "http": _pool(CheckedBackend(AddressRule(listed, public=False), threads), None),
        }

    @property
    def signs(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self._secrets)

    async def post(self, url: str, message: Message) -> int:
        """Send a message and return the status of the answer; raises NotSent."""
        try:
            async with asyncio.timeout(TIMEOUT) as limit:
                return await self._post(url, message, limit)
        except TimeoutError as error:
            raise NotSent(f"no answer within {TIMEOUT:g} s") from error
        except _BROKEN as error:
            raise NotSent(f"{type(error).__name__}: {error}") from error

    async def _post(self, url: str, message: Message, limit: asyncio.Timeout) -> int:
        parts = urlsplit(url)
        pool = self._pools[parts.scheme]
        headers = self._headers(parts.netloc, message)
        async with pool.stream("POST", url, headers=headers, content=message.body) as response:
            limit.reschedule(None)  # the head is the answer, whatever becomes of the body
            await _drain(response)
            status: int = response.status
            return status

    def _headers(self, host: str, message: Message) -> dict[str | bytes, str | bytes]:
        timestamp = int(time.time())
        headers: dict[str | bytes, str | bytes] = {
            "host": host,
            "content-type": "application/json",
            "content-length": str(len(message.body)),
            "user-agent": "genqueue",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secrets, message, timestamp),
        }
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        return headers

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()


async def _drain(response: Any) -> None:
    read = 0
    with suppress(TimeoutError, *_BROKEN):
        async with asyncio.timeout(_DRAIN):
            async for piece in response.aiter_stream():
                read += len(piece)
                if read > _BODY:
                    return
