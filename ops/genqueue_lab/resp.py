"""Where RESP values end: enough of the protocol to pass whole commands and replies on without decoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import StreamReader

_CRLF: Final = b"\r\n"
_BULKS: Final = b"$!="
_AGGREGATES: Final = b"*~>%|"


async def read_value(reader: StreamReader) -> bytes:
    """Return the next value as it is on the wire; raises asyncio.IncompleteReadError at the end of the stream."""
    value = bytearray()
    missing = 1
    while missing:
        missing -= 1
        line = await reader.readuntil(_CRLF)
        value += line
        kind, size = line[:1], line[1:-2]
        if kind in _BULKS and int(size) >= 0:
            value += await reader.readexactly(int(size) + len(_CRLF))
        elif kind in _AGGREGATES:
            # A map has two values for each entry; attributes come in front of the value they belong to.
            pairs = kind in b"%|"
            missing += max(0, int(size)) * (2 if pairs else 1) + (kind == b"|")
    return bytes(value)


def arguments_of(command: bytes) -> tuple[bytes, ...]:
    """Return the arguments of a command on the wire, its name first and in capitals."""
    if not command.startswith(b"*"):
        inline = command.split()
        return (inline[0].upper(), *inline[1:]) if inline else ()
    arguments, at = [], command.index(_CRLF) + 2
    while at < len(command):
        start = command.index(_CRLF, at) + 2
        size = int(command[at + 1 : start - 2])
        arguments.append(command[start : start + size])
        at = start + size + 2
    return (arguments[0].upper(), *arguments[1:])


def is_pushed(reply: bytes) -> bool:
    """Whether a reply answers no command: a message on a channel."""
    if reply.startswith(b">"):
        return True
    head = reply[:64].split(_CRLF)
    return head[0].startswith(b"*") and len(head) > 2 and head[2] in {b"message", b"pmessage", b"smessage"}
