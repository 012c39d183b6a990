"""Ways a TCP connection ends that no protocol asks for."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from genqueue_lab.emulator.exchange import Ending

#: SO_LINGER on, for no time: close() sends RST and throws away what was not sent.
_AT_ONCE = struct.pack("ii", 1, 0)


def drop(transport: asyncio.Transport, ending: Ending) -> None:
    """Close a connection below TLS: "fin" as a process that ends does it, "rst" as a host that forgot it."""
    if transport.is_closing():
        return
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the other side was quicker
        if ending == "rst":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    with contextlib.suppress(AttributeError):  # early releases of 3.11 raise it once TLS has ended
        transport.abort()
