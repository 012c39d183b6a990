"""The emulator's listening side: TLS, and the HTTP version each client chose by ALPN."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import weakref
from typing import TYPE_CHECKING, Self, cast

from genqueue_lab.certificates import ensure_certificates
from genqueue_lab.emulator.http1 import Http1Connection
from genqueue_lab.emulator.http2 import Http2Connection
from genqueue_lab.emulator.service import Gemini
from genqueue_lab.emulator.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genqueue_lab.emulator.options import Options

    Connection = Http1Connection | Http2Connection

#: Connections the kernel holds for the loop to accept.
BACKLOG = 1024

#: Seconds a client has for the TLS handshake, and for its part of closing.
HANDSHAKE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 1.0


class _Door(asyncio.Protocol):
    """Hands a connection over to the protocol its client chose, once the handshake has said which."""

    def __init__(self, choose: Callable[[str | None], Connection]) -> None:
        self._choose = choose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        connection = self._choose(chosen)
        cast("asyncio.Transport", transport).set_protocol(connection)
        connection.connection_made(transport)


class Emulator:
    """The emulator inside a running event loop; an async context manager."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stats = Stats()
        self.service = Gemini(options, self.stats)
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()

    async def start(self) -> Self:
        """Listen; raises OSError when the address cannot be had."""
        certificates = ensure_certificates(self.options.directory)
        self.ca_file = certificates.ca_file.absolute()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Door(self._choose),
            self.options.host,
            self.options.port,
            ssl=certificates.server_context(),
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    @property
    def url(self) -> str:
        """Base URL of the API."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"https://{host}:{self.port}"

    def _choose(self, protocol: str | None) -> Connection:
        if protocol == "h2":
            chosen: Connection = Http2Connection(self.service, self.stats, self.options.max_concurrent_streams)
        else:
            chosen = Http1Connection(self.service, self.stats)
        self._connections.add(chosen)
        return chosen

    async def stop(self) -> None:
        """Stop listening and close every connection; answers under way are cut off."""
        self._server.close()
        open_connections = [connection for connection in self._connections if not connection.lost.is_set()]
        for connection in open_connections:
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT):
                for connection in open_connections:
                    await connection.lost.wait()
        for connection in open_connections:
            connection.abort()
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def run(options: Options, announce: Callable[[Emulator], None]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` is called once connections are accepted."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Emulator(options) as emulator:
        if options.ready_file is not None:
            _write_ready_file(options.ready_file, emulator)
        announce(emulator)
        await stopped.wait()


def _write_ready_file(path: Path, emulator: Emulator) -> None:
    """Write the file whole: whoever waits for it must not read half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"url": emulator.url, "ca_file": str(emulator.ca_file), "pid": os.getpid()}))
    draft.replace(path)
