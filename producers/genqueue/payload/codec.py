"""How requests, results and answers are stored: plain, compressed when large, sealed when there are keys.

The first byte says which: `{` is plain JSON, `z` is zlib, `e` is an AES-GCM frame (`seal.py`) around one of the other
two. A frame is bound to its kind and to this version, so that a result cannot be passed off as a request.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import zlib
from typing import TYPE_CHECKING, Any, Final, Literal

from genqueue.errors import PayloadUnreadable
from genqueue.payload import seal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.settings import Settings

Kind = Literal["request", "result", "event", "blob"]

#: Version of the stored form.
VERSION: Final = 1

#: Documents over this many bytes are compressed.
COMPRESS_OVER: Final = 64 * 1024

#: Largest document anything opens to, in bytes: what claims to be larger is refused before it fills the memory.
MAX_OPENED: Final = 64 * 1024 * 1024

#: Fields of an entry that hold what the caller or the model said; sealed together as one.
CONTENT_FIELDS: Final = ("text", "json", "message", "prompt_feedback")

_COMPRESSED: Final = b"z"
#: A document is text, mostly: level 1 gives nearly all of the gain for a third of the time.
_LEVEL: Final = 1


class Codec:
    """Turns documents into what is stored and back.

    Args:
        ring: keys to seal with; None stores documents as they are.
    """

    def __init__(self, ring: seal.KeyRing | None = None) -> None:
        self._ring = ring

    @property
    def seals(self) -> bool:
        """Whether what is stored is sealed."""
        return self._ring is not None

    @property
    def fingerprint_keys(self) -> tuple[bytes, ...]:
        """Keys of the fingerprints: the one in use, then those of before; b"" is that of plain ones."""
        return (b"",) if self._ring is None else (*self._ring.fingerprint_keys, b"")

    def name_of(self, sha256: str) -> str:
        """Return the name of a blob: its digest; a keyed one with keys, as digests of known files are known."""
        return sha256 if self._ring is None else hmac.digest(self.fingerprint_keys[0], sha256.encode(), "sha256").hex()

    def seal(self, kind: Kind, data: bytes) -> bytes:
        """Return the stored form of a document (a JSON object, or any bytes of a blob, which are not compressed)."""
        packed = data if kind == "blob" else compressed(data)
        return packed if self._ring is None else self._ring.seal(packed, _bound_to(kind))

    def open(self, kind: Kind, data: bytes) -> bytes:
        """Return the document of a stored form; what was stored before there were keys opens as well.

        Raises:
            PayloadUnreadable: no key here opens it, or it is damaged, too large, or of a later version.
        """
        if data[:1] == seal.MARK:
            data = self._unsealed(kind, data)
        return data if kind == "blob" else plain(data)

    def _unsealed(self, kind: Kind, frame: bytes) -> bytes:
        if self._ring is None:
            raise PayloadUnreadable(f"it is sealed with the key {seal.key_id(frame)}; set GENQUEUE_PAYLOAD_KEYS here")
        return self._ring.open(frame, _bound_to(kind))

    def seal_entry(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a stream entry's fields with what was said sealed into one field, `sealed`; the same without keys."""
        if self._ring is None:
            return entry
        said = {name: entry[name] for name in CONTENT_FIELDS if name in entry}
        if not said:
            return entry
        frame = self.seal("event", json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode())
        return {
            **{name: value for name, value in entry.items() if name not in said},
            "sealed": base64.b64encode(frame).decode(),
        }

    def open_entry(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Return an entry's fields as they were before `seal_entry`; the same when nothing is sealed.

        Raises:
            PayloadUnreadable: no key here opens it, or it is damaged.
        """
        if "sealed" not in fields:
            return fields
        try:
            frame = base64.b64decode(fields["sealed"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise PayloadUnreadable("its field `sealed` is no base64") from error
        said = _object(self.open("event", frame))
        return {**{name: value for name, value in fields.items() if name != "sealed"}, **said}


#: For a deployment without keys.
PLAIN: Final = Codec()


def codec_of(settings: Settings) -> Codec:
    """Return the codec of a deployment; raises MissingExtra when there are keys and nothing to seal with."""
    keys = settings.payload_keys
    return PLAIN if keys is None else Codec(seal.KeyRing(seal.parse_keys(keys.get_secret_value())))


def compressed(data: bytes) -> bytes:
    """Return a document as it is, or compressed when it is large and that makes it smaller."""
    if len(data) <= COMPRESS_OVER:
        return data
    packer = zlib.compressobj(_LEVEL)
    packed = b"".join((_COMPRESSED, packer.compress(data), packer.flush()))
    return packed if len(packed) < len(data) else data


def plain(data: bytes) -> bytes:
    """Return the document of what `compressed` gave; raises PayloadUnreadable."""
    match data[:1]:
        case b"{":
            return data
        case b"z":
            return _inflated(memoryview(data)[1:])
        case first:
            raise PayloadUnreadable(f"it begins with {first!r}: it is damaged, or a later version of genqueue wrote it")


def _object(document: bytes) -> dict[str, str]:
    try:
        said = json.loads(document)
    except ValueError as error:
        raise PayloadUnreadable("it is no JSON") from error
    if not isinstance(said, dict):
        raise PayloadUnreadable("it is no JSON object")
    return said


def _inflated(packed: memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, MAX_OPENED)
    except zlib.error as error:
        raise PayloadUnreadable("its compressed data is damaged") from error
    if unpacker.eof:
        return data
    if len(data) >= MAX_OPENED:
        raise PayloadUnreadable(f"it is larger than {MAX_OPENED} bytes when decompressed")
    raise PayloadUnreadable("its compressed data is cut short")


def _bound_to(kind: Kind) -> bytes:
    return f"genqueue:{VERSION}:{kind}".encode()
