"""Gemini's Files API: data too large for a request is uploaded before, in pieces, and named by its URI."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of, error_of_response, error_of_transport

#: Bytes sent in one request; the API wants multiples of 256 KB.
PIECE: Final = 8 * 1024 * 1024

#: Seconds between two looks at a file the provider still works on, and seconds until it is given up.
LOOK_AGAIN: Final = 0.5
PATIENCE: Final = 600.0


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one route.

    Attributes:
        base_url: of the provider, without the version.
        headers: with the key.
    """

    client: httpx.AsyncClient
    base_url: str
    version: str
    headers: Mapping[str, str]

    async def upload(self, data: bytes, mime_type: str) -> str:
        """Upload data and return its URI once it may be used.

        Raises:
            ProviderError: the provider refused it, broke off, or could not read it (`file_failed`).
        """
        url = await self._begin(len(data), mime_type)
        view = memoryview(data)
        # A file of nothing needs its one request too.
        for offset in range(0, len(data) or 1, PIECE):
            piece = bytes(view[offset : offset + PIECE])
            last = offset + PIECE >= len(data)
            answer = await self._send_piece(url, offset, piece, last=last)
        file = _json(answer).get("file")
        if not isinstance(file, dict):
            raise ProviderError("file_failed", "the provider names no file after its upload", retryable=True)
        return await self._until_active(file)

    async def discard(self, uri: str) -> None:
        """Delete an uploaded file; raises ProviderError."""
        await self._send("DELETE", f"{self.base_url}/{self.version}/files/{_id_of(uri)}")

    async def _begin(self, size: int, mime_type: str) -> str:
        headers = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(size),
            "x-goog-upload-header-content-type": mime_type,
        }
        body = msgspec.json.encode({"file": {"mimeType": mime_type}})
        answer = await self._send("POST", f"{self.base_url}/upload/{self.version}/files", headers, body)
        told = urlsplit(str(answer.headers.get("x-goog-upload-url", "")))
        if not told.path:
            raise ProviderError("file_failed", "the provider gave no address to upload to", retryable=True)
        # Only the path and the query: the key goes nowhere but to the route's own endpoint.
        here = urlsplit(self.base_url)
        return str(urlunsplit((here.scheme, here.netloc, told.path, told.query, "")))

    async def _send_piece(self, url: str, offset: int, piece: bytes, *, last: bool) -> httpx.Response:
        command = "upload, finalize" if last else "upload"
        headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
        answer = await self._send("POST", url, headers, piece)
        status, expected = answer.headers.get("x-goog-upload-status"), "final" if last else "active"
        if status != expected:
            message = f"the upload is {status} at {offset + len(piece)} bytes, expected {expected}"
            raise ProviderError("file_failed", message, retryable=True)
        return answer

    async def _until_active(self, file: Mapping[str, Any]) -> str:
        give_up = time.monotonic() + PATIENCE
        uri = str(file.get("uri"))
        while (state := file.get("state", "ACTIVE")) != "ACTIVE":
            if state == "FAILED":
                raise error_of({"error": {"status": "file_failed", **_object(file.get("error"))}})
            if time.monotonic() >= give_up:
                raise ProviderError("file_failed", f"the file is still {state} after {PATIENCE:g} s", retryable=True)
            await asyncio.sleep(LOOK_AGAIN)
            file = _json(await self._send("GET", f"{self.base_url}/{self.version}/files/{_id_of(uri)}"))
        return uri

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response:
        try:
            answer = await self.client.request(method, url, content=body, headers={**self.headers, **(headers or {})})
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise error_of_transport(error) from error
        if answer.status_code != httpx.codes.OK:
            raise error_of_response(answer.status_code, answer.headers, answer.content, time.time())
        return answer


def _id_of(uri: str) -> str:
    """Return the last step of a file's URI, which names it; it leads nowhere else."""
    return uri.rpartition("/")[2].partition("?")[0]


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        return _object(msgspec.json.decode(answer.content))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProviderError("file_failed", f"the provider's answer is no JSON: {error}", retryable=True) from error


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
