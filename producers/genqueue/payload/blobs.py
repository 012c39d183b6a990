"""Large inline data outside the data server: in files, or in whatever fsspec has a file system for.

A flight's blobs are at `<url>/<tenant>/<flight>/<name>`, and live as long as its request.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from genqueue.errors import BlobsUnavailable, GenqueueError, MissingExtra, PayloadUnreadable, SettingsError
from genqueue.settings import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from genqueue.payload.codec import Codec
    from genqueue.payload.inline import Blob
    from genqueue.settings import Settings

#: Bytes that sealing may add to a blob.
_SEAL_ROOM: Final = 128

#: Extra that brings the package of a scheme; fsspec names the others itself.
_EXTRAS: Final = {"s3": "s3", "s3a": "s3"}

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]*")
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_SWITCHES: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class BlobReference:
    """What a document says of a blob.

    Attributes:
        sha256: digest of the data, in hex.
        size: its bytes.
        tenant: in whose folder it is: the first submitter's.
        name: what it is called there.
    """

    sha256: str
    size: int
    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class BlobFolder:
    """The blobs of one flight.

    Attributes:
        modified: when the newest was written.
        size: their bytes together.
    """

    tenant: str
    flight: str
    modified: datetime
    size: int


class BlobStore:
    """Blobs of one deployment; its calls block, and may come from several threads."""

    def __init__(self, url: str, options: dict[str, Any], codec: Codec) -> None:
        bare, _, query = url.partition("?")
        self._url = bare.rstrip("/")
        self._options = {**{name: _SWITCHES.get(text, text) for name, text in parse_qsl(query)}, **options}
        if bare.startswith(("file:", "local:")):
            self._options.setdefault("auto_mkdir", True)
        self._codec = codec
        self._name = without_credentials(url)
        self._opened: tuple[int, Any, str] | None = None

    def put(self, tenant: str, flight: str, blobs: Sequence[Blob]) -> None:
        """Write a flight's blobs; raises BlobsUnavailable."""
        for blob in blobs:
            self._do(partial(_write, _path(tenant, flight, blob.name), self._codec.seal("blob", blob.data)))

    def fetch(self, flight: str, reference: BlobReference) -> bytes | None:
        """Return a blob's data; None when there is none.

        Raises:
            BlobsUnavailable: the store does not answer.
            PayloadUnreadable: what is there is not what was written, or no key here opens it.
        """
        name, tenant = reference.name, reference.tenant
        if not (_NAME.fullmatch(name) and _TENANT.fullmatch(tenant)):
            raise PayloadUnreadable(f"{tenant[:80]!r}, {name[:80]!r} is no blob's place")
        stored = self._do(partial(_read, _path(tenant, flight, name), reference.size + _SEAL_ROOM))
        if stored is None:
            return None
        # A file from before there were keys is what it says; it may begin like a frame by chance.
        data = stored if _is(stored, reference) else self._codec.open("blob", stored)
        if not _is(data, reference):
            raise PayloadUnreadable(f"the blob {name} has {len(data)} bytes and is not what was written")
        return data

    def delete(self, tenant: str, flight: str) -> None:
        """Delete a flight's blobs; nothing happens when there are none. Raises BlobsUnavailable."""
        self._do(partial(_remove, _path(tenant, flight)))

    def folders(self) -> Iterator[BlobFolder]:
        """Yield every flight that has blobs; raises BlobsUnavailable."""
        found: dict[tuple[str, str], BlobFolder] = {}
        for tenant, flight, modified, size in self._do(_listing):
            known = found.get((tenant, flight))
            newest = modified if known is None else max(modified, known.modified)
            found[tenant, flight] = BlobFolder(tenant, flight, newest, size + (known.size if known else 0))
        yield from found.values()

    def _do(self, work: Callable[[Any, str], Any]) -> Any:
        try:
            fs, root = self._file_system()
            return work(fs, root)
        except GenqueueError:
            raise
        except Exception as error:  # each file system raises errors of its own kind
            raise BlobsUnavailable(self._name, f"{type(error).__name__}: {error}") from error

    def _file_system(self) -> tuple[Any, str]:
        # Connections and fsspec's own thread do not survive a fork.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *self._open())
        return self._opened[1:]

    def _open(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("blobs", "fsspec") from error
        scheme = self._url.partition(":")[0]
        try:
            fs, root = url_to_fs(self._url, skip_instance_cache=True, **self._options)
        except ImportError as error:
            if scheme in _EXTRAS:
                raise MissingExtra(_EXTRAS[scheme], "s3fs") from error
            raise SettingsError([f"GENQUEUE_BLOB_URL: {scheme}:// needs a package: {error}"]) from error
        except ValueError as error:
            raise SettingsError([f"GENQUEUE_BLOB_URL: got {self._name!r}, {error}"]) from error
        return fs, str(root)


def blob_store_of(settings: Settings, codec: Codec) -> BlobStore | None:
    """Return the deployment's blob store, None without one; connects on first use."""
    if settings.blob_url is None:
        return None
    options = settings.blob_options
    return BlobStore(settings.blob_url, json.loads(options.get_secret_value()) if options else {}, codec)


def _path(*steps: str) -> str:
    return "/".join(steps)


def _is(data: bytes, reference: BlobReference) -> bool:
    return len(data) == reference.size and hashlib.sha256(data).hexdigest() == reference.sha256


def _write(path: str, data: bytes, fs: Any, root: str) -> None:
    fs.pipe_file(_path(root, path), data)


def _read(path: str, most: int, fs: Any, root: str) -> bytes | None:
    try:
        data: bytes = fs.cat_file(_path(root, path), start=0, end=most)
    except FileNotFoundError:
        return None
    return data


def _remove(path: str, fs: Any, root: str) -> None:
    fs.invalidate_cache()
    try:
        fs.rm(_path(root, path), recursive=True)
    except FileNotFoundError:
        return


def _listing(fs: Any, root: str) -> list[tuple[str, str, datetime, int]]:
    fs.invalidate_cache()
    found = []
    for path, facts in fs.find(root, detail=True).items():
        steps = path.removeprefix(root).strip("/").split("/")
        if len(steps) == 3 and facts.get("type") == "file":
            found.append((steps[0], steps[1], fs.modified(path), int(facts.get("size") or 0)))
    return found
