"""Header blocks of requests as HPACK has them (RFC 7541), without its dynamic table.

`hpack` looks each field up, for a tenth of a short stream's time. Without a table a field is spelled the same in every
request, so it is spelled once; a request of some hundred bytes is sent whole instead of in some dozen.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

#: Fields that the standard has a number for, and names.
_WHOLE: Final = {(b":method", b"GET"): 2, (b":method", b"POST"): 3, (b":scheme", b"http"): 6, (b":scheme", b"https"): 7}
_NAMES: Final = {
    b":authority": 1,
    b":method": 2,
    b":path": 4,
    b":scheme": 6,
    b"accept-encoding": 16,
    b"accept": 19,
    b"authorization": 23,
    b"content-length": 28,
    b"content-type": 31,
    b"user-agent": 58,
}

#: First bits of a field: of one with a number, of a literal, and of a literal that nobody on the way may index.
_INDEXED: Final = 0x80
_LITERAL: Final = 0x00
_NEVER: Final = 0x10

#: In front of a connection's first block: the dynamic table is given up, whatever size the server allows.
_NO_TABLE: Final = b"\x20"


class HeaderBlocks:
    """An encoder for `h2`, in place of hpack's.

    Attributes:
        header_table_size: what the server allows, as `h2` says; it is not used.
    """

    def __init__(self) -> None:
        self.header_table_size = 0
        self._begun = False

    def encode(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the block of some fields; hpack's NeverIndexedHeaderTuples are marked as what they are."""
        block = b"".join([_spelled(*field, getattr(field, "indexable", True)) for field in fields])
        if self._begun:
            return block
        self._begun = True
        return _NO_TABLE + block


@lru_cache(maxsize=1024)
def _spelled(name: bytes, value: bytes, indexable: bool) -> bytes:  # noqa: FBT001 - of a cache
    if number := _WHOLE.get((name, value)):
        return _number(number, 7, _INDEXED)
    kind = _LITERAL if indexable else _NEVER
    if number := _NAMES.get(name):
        return _number(number, 4, kind) + _text(value)
    return bytes((kind,)) + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    return _number(len(text), 7, 0) + text


def _number(number: int, bits: int, first: int) -> bytes:
    """Return an integer whose first byte has so many bits for it, besides `first`: RFC 7541, 5.1."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((first | number,))
    found = [first | most]
    number -= most
    while number >= 0x80:  # seven bits a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))
