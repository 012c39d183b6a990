"""DATA frames, which are nearly all of an answer, read without `h2`: it takes longer for each than all else does.

`h2` sees every other frame, where an answer ends, and DATA that is not of an answer in `answers`.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from h2.exceptions import FrameTooLargeError

#: In front of each frame: its length in two parts, kind, flags, stream.
_HEAD: Final = struct.Struct(">HBBBL")

#: Largest frame that a server may send, as it was never allowed a larger one.
_LONGEST: Final = 16384

_DATA: Final = 0
_END_STREAM: Final = 0x01
_PADDED: Final = 0x08
_RESERVED: Final = 0x80000000

_WINDOW_UPDATE: Final = struct.Struct(">HBBBLL")
_WINDOW_UPDATE_KIND: Final = 8


class Answer(Protocol):
    """One whose body is read here."""

    def feed(self, data: bytes, size: int) -> None:
        """Take in a piece of the body that was `size` bytes on the wire."""
        ...


class DataFrames:
    """Part what a server sends into DATA, fed to its answer, and all else, for `h2`.

    Args:
        answers: by their streams.
    """

    def __init__(self, answers: Mapping[int, Answer]) -> None:
        self._answers = answers
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is for `h2`, in whole frames; it is to be dealt with before the next is asked for.

        Raises:
            FrameTooLargeError: a frame is longer than a server may send; where the next one begins is not looked for.
        """
        data = self._rest + data if self._rest else data
        self._rest = b""
        seen = at = 0
        while len(data) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            behind = at + _HEAD.size + (high << 8 | low)
            if behind - at - _HEAD.size > _LONGEST:
                if seen < at:
                    yield data[seen:at]
                # `h2` would wait for all of it.
                raise FrameTooLargeError(f"a frame of {behind - at - _HEAD.size} bytes: expected {_LONGEST} at most")
            if behind > len(data):
                break
            if kind == _DATA:
                if seen < at:
                    yield data[seen:at]  # with it, an answer may begin
                    seen = at
                if (answer := self._answers.get(stream & ~_RESERVED)) and (piece := _piece(data, at, behind, flags)):
                    answer.feed(data[piece], behind - at - _HEAD.size)
                    seen = behind
                    if flags & _END_STREAM:
                        yield _HEAD.pack(0, 0, _DATA, _END_STREAM, stream)
            at = behind
        self._rest = data[at:]
        if seen < at:
            yield data[seen:at]


def _piece(data: bytes, at: int, behind: int, flags: int) -> slice | None:
    """Return where a frame's body is without padding; None when there is more of that than fits, as `h2` will say."""
    first = at + _HEAD.size
    if not flags & _PADDED:
        return slice(first, behind)
    last = behind - data[first] if first < behind else first
    return slice(first + 1, last) if last > first else None


class Credit:
    """Bytes that were read of DATA which `h2` does not see, and for which the server may send as many again."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._owed = 0

    def update(self, stream: int, size: int) -> bytes:
        """Add bytes that were read; return the frame that credits them, nothing before they are worth one."""
        self._owed += size
        if self._owed < self._step:
            return b""
        owed, self._owed = self._owed, 0
        return _WINDOW_UPDATE.pack(0, 4, _WINDOW_UPDATE_KIND, 0, stream, owed)
