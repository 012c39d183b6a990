"""Inline data of a request: what identifies it, and what of it is kept outside the data server.

A stored document holds inline data as the provider wants it, {"inlineData": {"mimeType": ..., "data": <base64>}}, or,
where a blob store holds it, {"inlineData": {"mimeType": ..., "blob": {"sha256": ..., "size": ..., "tenant": ...,
"name": ...}}}. A request is identified by digest and size of all of it, wherever it is kept: equal data gives the equal
fingerprint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import InvalidRequest
from genqueue.fingerprint import encode
from genqueue.request.contents import inline_parts
from genqueue.request.document import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from genqueue.payload.codec import Codec
    from genqueue.settings import Settings

#: How inline data stands in canonical JSON; a text that says so does not, as its quotes are escaped.
_KEY: Final = b'"inlineData":'


@dataclass(frozen=True, slots=True)
class Blob:
    """Inline data that goes to the blob store.

    Attributes:
        name: what it is called there.
    """

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Detached:
    """A request as it is stored.

    Attributes:
        document: canonical JSON, without what is in `blobs`.
        identity: canonical JSON that identifies the request: of all inline data only digest and size.
        blobs: what must be in the blob store before the request is submitted.
    """

    document: bytes
    identity: bytes
    blobs: tuple[Blob, ...] = ()


def detach(document: bytes, tenant: str, settings: Settings, codec: Codec) -> Detached:
    """Return the stored form of a canonical request.

    When the inline data is more than `blob_threshold` and there is a blob store, the largest pieces go there until
    the rest is not.

    Raises:
        InvalidRequest: inline data that is no base64, or more of it than the settings allow.
    """
    if _KEY not in document:
        return Detached(document, document)
    request = json.loads(document)
    parts = inline_parts(request["contents"], request.get("system_instruction"))
    pieces = [_Piece.of(where, part["inlineData"]) for where, part in parts]
    total = sum(piece.encoded for piece in pieces)
    if total > settings.max_inline_bytes:
        expected = f"at most {settings.max_inline_bytes} bytes of inline data as base64 (GENQUEUE_MAX_INLINE_BYTES)"
        raise InvalidRequest("contents", f"{total} bytes", expected)
    outside = _outside(pieces, total, settings)
    blobs = {piece.sha256: Blob(codec.name_of(piece.sha256), piece.data) for piece in outside}
    for piece in outside:
        piece.refer(tenant=tenant, name=blobs[piece.sha256].name)
    stored = encode(request) if outside else document
    if len(stored) > MAX_REQUEST_BYTES:
        hint = "" if settings.blob_url else "; set GENQUEUE_BLOB_URL to keep larger inline data outside the data server"
        raise InvalidRequest("contents", f"{len(stored)} bytes", f"at most {MAX_REQUEST_BYTES} bytes{hint}")
    for piece in pieces:
        piece.refer()
    return Detached(stored, encode(request), tuple(blobs.values()))


@dataclass(frozen=True, slots=True)
class _Piece:
    """One field `inlineData` of a request, and what is in it."""

    field: dict[str, Any]
    data: bytes
    sha256: str
    encoded: int

    @classmethod
    def of(cls, where: str, field: dict[str, Any]) -> _Piece:
        text = field.get("data")
        if not isinstance(text, str) or "blob" in field:
            raise InvalidRequest(where, field, "mimeType and data, in base64")
        data = _decoded(text, f"{where}.data")
        return cls(field, data, hashlib.sha256(data).hexdigest(), len(text))

    def refer(self, **place: str) -> None:
        """Put a reference in the data's place."""
        self.field.pop("data", None)
        self.field["blob"] = {"sha256": self.sha256, "size": len(self.data), **place}


def _decoded(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(field, text, "base64") from error


def _outside(pieces: list[_Piece], total: int, settings: Settings) -> list[_Piece]:
    """Return the pieces that go to the blob store, the largest first."""
    outside: list[_Piece] = []
    if settings.blob_url is None:
        return outside
    for piece in sorted(pieces, key=lambda piece: piece.encoded, reverse=True):
        if total <= settings.blob_threshold:
            break
        outside.append(piece)
        total -= piece.encoded
    return outside
