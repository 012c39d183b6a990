"""Sealing with AES-GCM: keys by id, the first of which seals while all of them open.

A frame is `e`, one byte with the length of the key's id, the id, a nonce of 12 bytes and the ciphertext with its tag.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genqueue.errors import MissingExtra, PayloadUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: First byte of a frame.
MARK: Final = b"e"

#: Bytes of a key: AES-128 or AES-256.
KEY_SIZES: Final = (16, 32)

_NONCE: Final = 12
_TAG: Final = 16
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EXPECTED: Final = "expected id:key,id:key with ids of letters, digits, '.', '_', '-' and base64 keys of 16 or 32 bytes"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, which never shows in a repr."""

    id: str
    secret: bytes = field(repr=False)


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys of "id:base64,id2:base64"; raises ValueError, in words that show no key."""
    keys = tuple(_key(item, place) for place, item in enumerate(text.split(","), start=1))
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("expected every key to have an id of its own")
    return keys


def _key(item: str, place: int) -> Key:
    name, _, encoded = item.strip().partition(":")
    try:
        secret = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not _ID.fullmatch(name) or len(secret) not in KEY_SIZES:
        raise ValueError(f"entry {place} is no key: {_EXPECTED}") from None
    return Key(name, secret)


class KeyRing:
    """Seals with the first key and opens with whichever a frame names."""

    def __init__(self, keys: Sequence[Key]) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only with keys
        except ImportError as error:
            raise MissingExtra("crypto", "cryptography") from error
        self._ciphers: Mapping[bytes, Any] = {key.id.encode(): AESGCM(key.secret) for key in keys}
        first = keys[0].id.encode()
        self._head = MARK + bytes([len(first)]) + first
        self._cipher = self._ciphers[first]
        #: Keys of fingerprints, in the same order: whoever reads one cannot try questions against it.
        self.fingerprint_keys = tuple(hmac.digest(key.secret, b"genqueue fingerprint 1", "sha256") for key in keys)

    def seal(self, data: bytes, bound_to: bytes) -> bytes:
        """Return the frame of some bytes, which opens only with the same `bound_to`."""
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._cipher.encrypt(nonce, data, bound_to)
        return b"".join((self._head, nonce, sealed))

    def open(self, frame: bytes, bound_to: bytes) -> bytes:
        """Return the bytes in a frame; raises PayloadUnreadable."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only with keys

        start = 2 + frame[1] if len(frame) > 1 else 2
        if len(frame) < start + _NONCE + _TAG:
            raise PayloadUnreadable("it is cut short")
        cipher = self._ciphers.get(name := frame[2:start])
        if cipher is None:
            raise PayloadUnreadable(f"it is sealed with the key {_name(name)}, which GENQUEUE_PAYLOAD_KEYS lacks here")
        try:
            opened: bytes = cipher.decrypt(frame[start : start + _NONCE], frame[start + _NONCE :], bound_to)
        except InvalidTag as error:
            raise PayloadUnreadable(
                f"the key {_name(name)} does not open it: it is damaged, or GENQUEUE_PAYLOAD_KEYS has another key "
                "under that id here"
            ) from error
        return opened


def key_id(frame: bytes) -> str:
    """Return the id of the key that sealed a frame, for messages."""
    return _name(frame[2 : 2 + frame[1]]) if len(frame) > 1 else "?"


def _name(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    return repr(text) if _ID.fullmatch(text) else "(no valid id)"
