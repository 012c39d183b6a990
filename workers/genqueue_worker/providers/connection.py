"""A connection of the pool's, from the moment somebody needs it."""

import asyncio
from collections.abc import Callable

import httpx

from genqueue_worker.providers.connection_options import ConnectionOptions
from genqueue_worker.providers.dialing import dial
from genqueue_worker.providers.transport import Line


class Connection:
    """One connection to the host of a URL, dialled at once; it is not opened again.

    `on_dialled` is called once it is open or has failed, `on_leaving` once, as soon as it takes no more requests.
    """

    def __init__(
        self,
        url: httpx.URL,
        options: ConnectionOptions,
        on_dialled: Callable[["Connection"], None],
        on_leaving: Callable[["Connection"], None],
    ) -> None:
        self._on_dialled, self._on_leaving = on_dialled, on_leaving
        self._dialling = asyncio.create_task(dial(url, options, lambda: on_leaving(self)))
        self._dialling.add_done_callback(self._dialled)

    @property
    def line(self) -> Line | None:
        """The open connection; None before, and when it came to nothing."""
        done = self._dialling.done() and not self._dialling.cancelled() and self._dialling.exception() is None
        return self._dialling.result() if done else None

    @property
    def gone(self) -> bool:
        """Whether nothing is left of it."""
        line = self.line
        return self._dialling.done() and (line is None or line.gone)

    async def ready(self) -> Line:
        """Wait until it is open; raises httpx.TransportError when it comes to nothing."""
        if (line := self.line) is not None:
            return line
        try:
            return await asyncio.shield(self._dialling)
        except asyncio.CancelledError:
            if self._dialling.cancelled():
                raise httpx.ConnectError("the connection was closed by us") from None
            raise

    async def aclose(self) -> None:
        """Close; streams end with an error."""
        self._dialling.cancel()
        await asyncio.wait([self._dialling])
        if line := self.line:
            await line.aclose()

    def _dialled(self, dialling: asyncio.Task[Line]) -> None:
        if dialling.cancelled():
            self._on_leaving(self)
            return
        self._on_dialled(self)
        if dialling.exception() is not None:
            self._on_leaving(self)
