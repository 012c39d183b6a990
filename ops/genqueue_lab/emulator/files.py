"""The Files API: resumable uploads, and files that are kept by digest and not by content."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from genqueue_lab.emulator.delivery import send_json
from genqueue_lab.emulator.errors import GoogleError, invalid
from genqueue_lab.emulator.fields import camel

if TYPE_CHECKING:
    from genqueue_lab.emulator.exchange import Exchange, Headers, Request

#: Bytes a file may have.
MAX_FILE: Final = 2 * 1024**3

#: Seconds a file is kept.
KEPT: Final = 48 * 3600

_PATH: Final = re.compile(r"/(?P<upload>upload/)?(?P<version>v1|v1beta|v1alpha)/files(?:/(?P<id>[^/]+))?")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(slots=True)
class File:
    """One file; times are Unix seconds.

    Attributes:
        size: bytes announced; None when the client did not.
        received: bytes that have come.
        ready: when it may be used; None while it is being uploaded.
    """

    id: str
    uri: str
    mime_type: str
    display_name: str
    size: int | None
    received: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    created: float = field(default_factory=time.time)
    ready: float | None = None

    @property
    def state(self) -> str:
        """The API's word for how far it is."""
        return "ACTIVE" if self.ready is not None and time.time() >= self.ready else "PROCESSING"

    def describe(self) -> dict[str, Any]:
        """Return the file's JSON."""
        digest = base64.b64encode(self.digest.hexdigest().encode()).decode()
        return {
            "name": f"files/{self.id}",
            **({"displayName": self.display_name} if self.display_name else {}),
            "mimeType": self.mime_type,
            "sizeBytes": str(self.received),
            "createTime": _moment(self.created),
            "updateTime": _moment(self.created),
            "expirationTime": _moment(self.created + KEPT),
            "sha256Hash": digest,
            "uri": self.uri,
            "state": self.state,
            "source": "UPLOADED",
        }


class Files:
    """The files of an emulator.

    Attributes:
        log: everything ever uploaded whole, deleted or not.
    """

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._uploads: dict[str, File] = {}
        self.log: list[File] = []

    def serves(self, request: Request) -> bool:
        """Whether a request is for this API."""
        return _PATH.fullmatch(request.path) is not None

    def continues(self, request: Request) -> bool:
        """Whether a request goes on with an upload, which its address alone entitles it to."""
        return "upload_id" in request.query

    async def answer(self, exchange: Exchange, headers: Headers, processing: float) -> None:
        """Answer one request; a file is ready `processing` seconds after its upload."""
        request = exchange.request
        found = _PATH.fullmatch(request.path)
        assert found is not None  # noqa: S101 - `serves` said so
        match request.method, bool(found["upload"]), found["id"]:
            case "POST", True, None:
                await (self._continue if self.continues(request) else self._begin)(exchange, headers, processing)
            case "GET", False, None:
                listed = [file.describe() for file in self._files.values()]
                await send_json(exchange, 200, {"files": listed} if listed else {}, headers)
            case "GET", False, str(name):
                await send_json(exchange, 200, self._file(name).describe(), headers)
            case "DELETE", False, str(name):
                del self._files[self._file(name).id]
                await send_json(exchange, 200, {}, headers)
            case _:
                raise GoogleError("NOT_FOUND", "Requested entity was not found.")

    async def _begin(self, exchange: Exchange, headers: Headers, processing: float) -> None:
        del processing
        request = exchange.request
        if request.headers.get("x-goog-upload-command") != "start":
            raise invalid("Invalid upload command: expected start, to begin a resumable upload.")
        told = _told(request)
        size = request.headers.get("x-goog-upload-header-content-length")
        if size is not None and int(size) > MAX_FILE:
            raise invalid(f"File is too large: at most {MAX_FILE} bytes.")
        kind = request.headers.get("x-goog-upload-header-content-type") or told.get("mimeType")
        name = str(told.get("name", "")).removeprefix("files/") or secrets.token_hex(6)
        if not _NAME.fullmatch(name):
            raise invalid("File name must be lowercase letters, numbers and dashes.")
        if name in self._files:
            raise GoogleError("ALREADY_EXISTS", f"File files/{name} already exists.")
        host = request.host
        uri = f"https://{host}/v1beta/files/{name}"
        file = File(name, uri, str(kind or "application/octet-stream"), str(told.get("displayName", "")), _int(size))
        upload = secrets.token_urlsafe(24)
        self._uploads[upload] = file
        address = f"https://{host}/upload/v1beta/files?upload_id={upload}&upload_protocol=resumable"
        status = [("x-goog-upload-status", "active"), ("x-goog-upload-url", address)]
        await send_json(exchange, 200, {}, [*headers, *status])

    async def _continue(self, exchange: Exchange, headers: Headers, processing: float) -> None:
        request = exchange.request
        file = self._uploads.get(request.query["upload_id"])
        if file is None:
            raise GoogleError("NOT_FOUND", "Upload not found.")
        commands = {word.strip() for word in request.headers.get("x-goog-upload-command", "").split(",")}
        if "upload" in commands:
            _receive(file, request)
        if "finalize" not in commands:
            received = ("x-goog-upload-size-received", str(file.received))
            await send_json(exchange, 200, {}, [*headers, ("x-goog-upload-status", "active"), received])
            return
        if file.size not in {None, file.received}:
            raise invalid(f"Upload has {file.received} bytes, {file.size} were announced.")
        del self._uploads[request.query["upload_id"]]
        file.ready = time.time() + processing
        self._files[file.id] = file
        self.log.append(file)
        await send_json(exchange, 200, {"file": file.describe()}, [*headers, ("x-goog-upload-status", "final")])

    def _file(self, name: str) -> File:
        file = self._files.get(name)
        if file is None:
            raise GoogleError(
                "PERMISSION_DENIED", f"You do not have permission to access the File {name} or it may not exist."
            )
        return file

    def check(self, contents: list[dict[str, Any]]) -> None:
        """Refuse turns that name a file of this API which may not be used."""
        for part in (part for content in contents for part in content["parts"]):
            named = {camel(name): value for name, value in part.get("fileData", {}).items()}
            uri = str(named.get("fileUri", ""))
            found = re.search(r"/v1(?:beta|alpha)?/files/([^/?]+)$", uri)
            if found and (state := self._file(found[1]).state) != "ACTIVE":
                message = f"The File {found[1]} is not in an ACTIVE state and usage is not allowed: {state}."
                raise GoogleError("FAILED_PRECONDITION", message)


def _told(request: Request) -> dict[str, Any]:
    """Return what the client says of the file, by its JSON names."""
    try:
        said = msgspec.json.decode(request.body or b"{}", type=dict[str, dict[str, Any]]).get("file", {})
    except msgspec.DecodeError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    return {camel(name): value for name, value in said.items()}


def _receive(file: File, request: Request) -> None:
    if request.oversized:
        raise invalid("Upload piece is too large.")
    if int(request.headers.get("x-goog-upload-offset", "-1")) != file.received:
        raise invalid(f"Upload offset is wrong: {file.received} bytes were received.")
    file.digest.update(request.body)
    file.received += len(request.body)


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
